"""The Train page: the form is the schema, the YAML is the form, errors stand beside fields, a job is queued once."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import streamlit as st
import yaml
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from trainer import datasets, queue, zoo
from trainer import spec as specs
from trainer.chain import read as read_file
from trainer.queue import store
from trainer.queue.engines import Process
from trainer.recipes import RECIPES
from trainer.spec import Change, JobSpec, Schedule
from trainer.tasks import TASKS
from trainer.training import estimate
from trainer.training.estimate import Estimate
from workbench.launch import draft, form
from workbench.widgets.messages import plain

PAGE = "from workbench.pages import train; train.render()"
HOSTILE = "<img src=x onerror=alert(1)>:red[x]$\\alpha$**b**"


def opened(**address: str) -> AppTest:
    page = AppTest.from_string(PAGE, default_timeout=30)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def spec_of(page: AppTest) -> JobSpec | None:
    """The job that the YAML on the page says."""
    documents = [yaml.safe_load(code.value) for code in page.code]
    return next((specs.parse(fields) for fields in documents if isinstance(fields, dict)), None)


def texts(page: AppTest) -> str:
    return "\n".join(text.value for text in page.text)


def press(page: AppTest) -> AppTest:
    next(button for button in page.button if button.label == "Queue this job").click().run()
    assert not page.exception
    return page


def test_the_page_opens_on_a_job_that_can_be_queued_at_once(home):
    page = opened()
    shipped = specs.read("specs/smoke-ner.yaml")
    assert spec_of(page).digest == shipped.digest
    press(page)
    assert [job.spec for job in queue.jobs()] == [shipped.model_dump(mode="json")]
    job = queue.jobs()[0]
    assert any(job.id in element.value and "position 1 in the queue" in element.value for element in page.markdown)
    assert page.get("page_link")[0].proto.query_string == f"job={job.id}"


def choose(page: AppTest, kind: str) -> AppTest:
    page.get("segmented_control")[0].set_value(kind).run()
    assert not page.exception
    return page


@pytest.mark.slow
def test_every_shipped_spec_is_one_click_away(home):
    page, seen = opened(), set()
    for path in sorted(Path("specs").rglob("*.yaml"), key=lambda path: len(path.parts)):
        shipped, name = read_file(path), path.relative_to("specs").with_suffix("").as_posix()
        alike = (path.parent.name, shipped.kind) if isinstance(shipped, JobSpec) else None
        if alike is None or (alike in seen and path.parent.name != "specs"):
            continue  # of those in folders one of a kind will do
        seen.add(alike)
        presets = choose(page, shipped.kind).selectbox(key=f"train.{shipped.kind}.preset")
        presets.set_value(name).run()
        assert spec_of(page).digest == shipped.digest, name


def test_a_problem_stands_at_the_field_it_names_and_not_at_its_group():
    names = ["student.layers", "student.start", "student.layer_map", "student", "dataset"]
    problems = [("student.start", "a"), ("student.layer_map.tuple.0", "b"), ("student", "c"), ("spec", "no dataset")]
    shown = form.assign([*problems, ("elsewhere", "d")], names)
    by_field = {"student.start": ["a"], "student.layer_map": ["b"], "student": ["c"], "dataset": ["no dataset"]}
    assert shown == by_field | {"": ["elsewhere: d"]}


def test_every_field_of_the_schema_has_a_widget_with_its_label_and_help(home):
    page = opened()
    widgets = {widget.key: widget for kind in ("text_input", "selectbox") for widget in page.get(kind)}
    for name, info in Schedule.model_fields.items():
        widget = widgets[f"train.finetune.schedule.{name}"]
        assert widget.help == info.description
    assert widgets["train.finetune.task.labelling"].options == ["first", "all"]
    assert not {"train.finetune.compute.engine", "train.finetune.compute.devices"} & set(widgets)  # nothing to choose


def test_a_new_field_of_the_schema_appears_by_itself():
    class Longer(Schedule):
        dropout: float = specs.Field(0.1, ge=0, le=0.9, description="Share of activations set to zero")

    class Spec(JobSpec):
        schedule: Longer = Longer.model_validate({})

    names = {leaf.name: leaf for leaf in form.leaves(Spec, {"task": TASKS}, {"task": "ner"})}
    leaf = names["schedule.dropout"]
    assert (leaf.label, leaf.type, leaf.bounds) == ("Dropout", float, {"ge": 0, "le": 0.9})


def test_the_yaml_follows_the_form(home):
    page = opened()
    page.text_input(key="train.finetune.schedule.lr").set_value("0.001").run()
    page.text_input(key="train.finetune.limit").set_value("50").run()
    page.selectbox(key="train.finetune.task.labelling").set_value("all").run()
    spec = spec_of(page)
    assert (spec.schedule.lr, spec.limit, spec.task.labelling) == (0.001, 50, "all")


WRONG = {  # of each kind of field and of mistake one is in every run
    ("schedule.lr", "fast"),
    ("schedule.clip", "1e400"),
    ("schedule.steps", "9" * 5000),
    ("limit", "-1"),
    ("dataset", "mtsamples-specialty"),
    ("model", "minilmm"),
}
ALSO_WRONG = {
    ("schedule.lr", "5"),
    ("schedule.lr", "1e"),
    ("schedule.lr", "0,001"),
    ("schedule.lr", "nan"),
    ("schedule.clip", "inf"),
    ("schedule.steps", "0"),
    ("schedule.steps", "2.5"),
    ("schedule.max_tokens", "7"),
    ("limit", "ten"),
    ("seed", "99999999999"),
    ("compute.threads", "0"),
    ("dataset", "./nowhere"),
    ("dataset", "bc5cdrr"),
    ("model", "./nowhere"),
    ("model", "biobert"),
}


@pytest.mark.parametrize(
    ("field", "typed"), [*sorted(WRONG), *(pytest.param(*each, marks=pytest.mark.slow) for each in sorted(ALSO_WRONG))]
)
def test_a_field_that_is_red_neither_runs_nor_is_tried_with_the_value_before(home, field, typed):
    page = opened()
    (widget,) = [each for each in (*page.text_input, *page.selectbox) if each.key == f"train.finetune.{field}"]
    if widget.type == "selectbox":
        widget.options.append(typed)  # AppTest cannot type into a select box
    widget.set_value(typed).run()
    assert not page.exception
    (trying,) = [button for button in page.button if button.label == "Estimate cost"] or [None]
    assert trying is None or trying.disabled
    press(page)
    assert page.error[0].value == "The job was not queued. Correct 1 field:" and queue.jobs() == []
    widgets = {each.key: each for each in (*page.text_input, *page.selectbox)}
    assert widgets[f"train.finetune.{field}"].value == typed, "what was typed stays, to be corrected"


def test_a_path_that_was_typed_is_a_text_that_can_be_typed_on_and_the_list_comes_back(home, tmp_path):
    page = on_dataset(data_set(tmp_path / "ward"))
    longer = data_set(tmp_path / "ward-2")
    path = page.text_input(key="train.finetune.dataset")
    assert (path.label, path.value) == ("Data set", str(tmp_path / "ward"))
    path.set_value(longer).run()
    assert spec_of(page).dataset == longer
    next(button for button in page.button if button.label == "Choose from the list").click().run()
    assert page.selectbox(key="train.finetune.dataset").value in datasets.cards()
    assert spec_of(page).dataset == page.selectbox(key="train.finetune.dataset").value


def test_no_select_box_that_holds_something_can_be_emptied_by_esc(home):
    """The browser lets Esc empty a select box without a default, unless it is required."""
    page = opened()
    for kind in draft.KINDS:
        choose(page, kind)
        for box in page.selectbox:
            assert box.value is None or box.proto.HasField("default") or box.proto.required, box.key
    assert choose(page, "finetune").selectbox(key="train.finetune.preset").options[0] == "Your own settings"


def test_a_wrong_value_is_reported_at_its_field_and_queues_nothing(home):
    page = opened()
    page.text_input(key="train.finetune.schedule.lr").set_value("0.0").run()
    assert "Input should be greater than 0" in texts(page)
    assert spec_of(page) is None
    press(page)
    assert page.error[0].value == "The job was not queued. Correct 1 field:"
    assert queue.jobs() == []
    page.text_input(key="train.finetune.schedule.lr").set_value("0.001").run()
    assert not page.error and spec_of(page)


def test_a_problem_of_two_fields_is_shown_at_both(home):
    page = opened()
    page.text_input(key="train.finetune.schedule.steps").set_value("5").run()
    assert texts(page).count("give epochs or steps, not both") == 2
    page.text_input(key="train.finetune.schedule.epochs").set_value("").run()
    assert spec_of(page).schedule.steps == 5


def test_an_unknown_model_is_reported_at_its_field_and_queues_nothing(home):
    page = opened(model="minilmm")
    assert "There is no model 'minilmm'. Did you mean 'minilm'?" in texts(page)
    press(page)
    assert page.error[0].value == "The job was not queued. Correct 1 field:"
    assert queue.jobs() == []


def on_dataset(reference: str, *, task: str = "ner") -> AppTest:
    """The page with this data set chosen. AppTest cannot type into a select box, so an earlier job names it."""
    spec = specs.parse({"kind": "finetune", "model": "minilm", "dataset": reference, "task": task})
    return opened(**{"from": queue.cancel(queue.submit(spec).id).id})


def data_set(folder, *, extra: str = "") -> str:
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.conll").write_text("Fever\tB-Disease\n.\tO\n\n" * 20 + extra)
    return str(folder)


def test_a_users_own_folder_is_read_and_its_facts_are_shown(home, tmp_path):
    page = on_dataset(data_set(tmp_path / "ward"))
    facts = plain("No problems found · Disease · sentences: train 20, dev 20, test 20")
    assert facts in [caption.value for caption in page.caption]


def test_the_bad_line_of_a_folder_is_named_and_nothing_is_queued(home, tmp_path):
    page = on_dataset(data_set(tmp_path / "ward", extra="Cough\tB-Disease\textra\n\n"))
    press(page)
    assert "line 61" in texts(page)
    assert "Cough" not in texts(page)
    assert page.error[0].value.startswith("The job was not queued")
    assert [job.state for job in queue.jobs()] == ["cancelled"]


def test_text_without_labels_is_refused_where_labels_are_needed(home, tmp_path):
    (tmp_path / "train.txt").write_text("Fever and chills.\n" * 9)
    page = on_dataset(str(tmp_path))
    assert "not ner" in texts(page)


def test_a_folder_that_is_not_there_is_an_error_at_the_field(home):
    page = on_dataset("./nowhere")
    assert "There is no data set './nowhere'" in texts(page)


def test_submitting_twice_says_that_the_job_is_there(home):
    page = press(opened())
    assert any("The job is queued" in element.value for element in page.markdown)
    press(page)
    assert any("This job is already queued" in element.value for element in page.markdown)
    assert len(queue.jobs()) == 1


def test_the_queued_notice_is_not_shown_for_another_job(home):
    page = press(opened())
    page.text_input(key="train.finetune.seed").set_value("7").run()
    assert not any("queued" in element.value for element in page.markdown)


def test_without_a_worker_the_page_says_how_to_start_one(home):
    assert "stillroom worker" in [code.value for code in opened().code]
    queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    assert "stillroom worker" not in [code.value for code in opened().code]


def test_a_job_can_be_the_start_of_the_next(home):
    old = queue.submit(specs.parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "seed": 5, "limit": 9}))
    page = opened(**{"from": old.id})
    assert spec_of(page).digest.startswith(old.id.split("-")[0])


def test_the_address_can_name_the_model(home):
    page = opened(model="bio-clinicalbert")
    assert spec_of(page).model == "bio-clinicalbert"


def figures(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_the_page_to_distil_opens_on_a_job_that_can_be_queued_at_once(home):
    page = opened(teacher="minilm-bc5cdr")
    spec = spec_of(page)
    assert (spec.kind, spec.teacher, spec.student.layers) == ("distill", "minilm-bc5cdr", 3)
    press(page)
    assert [job.spec for job in queue.jobs()] == [spec.model_dump(mode="json")]


def test_what_a_distillation_does_is_shown_before_it_is_queued(home):
    page = opened(teacher="minilm-bc5cdr")
    assert figures(page) == {"Teacher, parameters": "22.6 M", "Student, parameters": "17.2 M"}
    assert page.metric[1].delta == "76% of teacher"
    assert len(page.get("plotly_chart")) == 1
    captions = [caption.value for caption in page.caption]
    assert "weight 1 · temperature 2 · outputs" in captions and "weight 1 · layers 3→6" in captions
    assert any("layers 1, 2, 3 start as copies of the embeddings and layers 2, 4, 6" in caption for caption in captions)
    page.text_input(key="train.distill.recipe.hidden_cosine").set_value("0.0").run()
    assert "weight 1 · layers 3→6" not in [caption.value for caption in page.caption]


def test_a_teacher_whose_labels_do_not_fit_the_data_is_refused_at_the_data(home):
    page = opened(teacher="minilm-bc5cdr")
    page.selectbox(key="train.distill.teacher").set_value("minilm-ncbi").run()
    message = "bc5cdr/train.conll, line 1: the teacher does not know the entity type 'Chemical'; it knows Disease."
    assert message in texts(page)
    press(page)
    assert queue.jobs() == []


def test_a_link_to_a_teacher_chooses_data_that_it_knows(home):
    spec = spec_of(opened(teacher="minilm-ncbi"))
    assert spec.teacher == "minilm-ncbi" and spec.dataset.startswith("ncbi")


def test_a_pair_that_does_not_fit_is_reported_at_its_fields(home):
    page = opened(teacher="minilm-bc5cdr")
    page.text_input(key="train.distill.student.hidden").set_value("312").run()
    assert "layers cannot be copied where hidden differ" in texts(page)
    assert len(page.get("plotly_chart")) == 1  # what can be said of the rest is said
    press(page)
    assert page.error[0].value == "The job was not queued. Correct 1 field:"
    page.selectbox(key="train.distill.student.start").set_value("embeddings").run()
    assert not texts(page) and spec_of(page).student.start == "embeddings"
    page.text_input(key="train.distill.student.layers").set_value("9").run()
    assert not texts(page)  # nothing of task_kd is compared layer by layer
    page.text_input(key="train.distill.recipe.attention_kl").set_value("1.0").run()
    assert "the student has 9 layers and its teacher only 6" in texts(page)


def test_another_recipe_brings_its_own_weights(home):
    page = opened(teacher="minilm-bc5cdr")
    page.text_input(key="train.distill.recipe.hidden_cosine").set_value("7.0").run()
    for name, recipe in RECIPES.items():
        if recipe.kind == "distill":
            page.selectbox(key="train.distill.recipe.name").set_value(name).run()
            assert not page.exception
            assert spec_of(page).recipe == recipe()


def test_layers_may_be_listed(home):
    chosen = {"base": None, "layers": 3, "layer_map": [1, 3, 6]}
    fields = {
        "kind": "distill",
        "teacher": "minilm-bc5cdr",
        "student": chosen,
        "recipe": "task_kd",
        "dataset": "bc5cdr",
    }
    old = queue.submit(specs.parse(fields))
    page = opened(**{"from": old.id})
    assert page.text_input(key="train.distill.student.layer_map").value == "1, 3, 6"
    assert spec_of(page).student.layer_map == (1, 3, 6)
    page.text_input(key="train.distill.student.layers").set_value("2").run()
    assert "found [1, 3, 6]; the student has 2 layers" in texts(page)


BASE = {"dataset": "bc5cdr", "seed": 9, "limit": 7}
KINDS = [
    {"kind": "finetune", "model": {"base": "minilm", "layers": 2, "vocabulary": 900, "start": "embeddings"}},
    {"kind": "finetune", "model": "minilm", "schedule": {"steps": 9, "batch_size": 2}, "compute": {"threads": 1}},
    {"kind": "distill", "teacher": "minilm-bc5cdr", "student": "minilm", "recipe": "task_kd"},
    {"kind": "distill", "teacher": "minilm-bc5cdr", "student": {"base": "minilm", "layers": 2}, "recipe": "task_kd"},
    {"kind": "distill", "teacher": "minilm", "student": {"architecture": "minialbert"}, "recipe": {"name": "compact"}},
    {"kind": "pretrain", "model": "minilm", "task": {"name": "mlm", "whole_words": True, "rows": "documents"}},
    {"kind": "average", "model": ["minilm-bc5cdr", "minilm-ncbi"]},
    {"kind": "evaluate", "model": "minilm-bc5cdr", "split": "dev", "task": {"name": "ner", "labelling": "all"}},
]


@pytest.mark.parametrize("fields", KINDS, ids=lambda fields: fields["kind"])
def test_a_job_of_any_kind_can_be_the_start_of_the_next(home, fields):
    old = queue.submit(specs.parse(BASE | fields))
    page = opened(**{"from": old.id})
    assert spec_of(page) == specs.parse(old.spec)


def test_every_field_of_the_schema_can_be_set_in_some_form(home):
    offered = set()
    for kind, recipe in product(draft.KINDS, RECIPES):
        opened_by = draft.Draft(kind)
        if RECIPES[recipe].kind != kind and kind != "evaluate":
            continue
        opened_by.put("recipe.name", recipe)
        for way in draft.WAYS[opened_by.learner]:
            opened_by.put(f"{opened_by.learner}.way", way)
            offered |= {leaf.name for leaf in opened_by.fields}
    tables = {"recipe": RECIPES, "task": TASKS}
    every = {leaf.name for leaf in form.leaves(JobSpec, tables, {"recipe": "task_kd", "task": "ner"})}
    every |= {leaf.name for leaf in form.leaves(Change, {}, {}, prefix="student.")}
    # The kind is chosen above the form; the recipe decides the task.
    assert every - offered == {"kind", "task.name"} - offered


def estimated(**fields) -> Estimate:
    usual = {"device": "cpu", "threads": 2, "params": 10, "trained": 10, "teacher_params": None, "steps": 1280}
    usual |= {"seconds_per_step": 0.5, "tokens_per_step": 900, "evaluations": 3, "evaluation_s": 10, "teacher_s": 0}
    return Estimate.model_validate(
        usual | {"preparing_s": 5, "peak_memory_bytes": 1.2e9, "cut": 0, "split": 0} | fields
    )


def test_an_estimate_is_shown_only_for_the_settings_it_was_made_for(home):
    page = opened()
    assert "Steps" not in figures(page)
    estimate.store(estimated(cut=0.031, busy=True), spec_of(page).digest)
    page.run()
    assert figures(page)["Whole run, at most"] == "11 min" and figures(page)["Steps"] == "1,280"
    captions = "\n".join(caption.value for caption in page.caption)
    assert "3.1% of the word pieces are cut off" in captions and "upper bounds" in captions
    page.text_input(key="train.finetune.seed").set_value("3").run()
    assert "Steps" not in figures(page)


def button(page: AppTest, label: str):
    return next(button for button in page.button if button.label == label)


def test_two_steps_are_tried_beside_the_page_and_can_be_stopped(home):
    page = opened()
    button(page, "Estimate cost").click().run()
    assert not page.exception
    trial = page.session_state["train.trial"]
    assert not trial.done
    assert any("Running two steps" in caption.value for caption in page.caption)
    assert button(page, "Estimate cost").disabled
    button(page, "Stop").click().run()
    assert not page.exception and page.session_state["train.trial"] is None
    assert trial.done and not button(page, "Estimate cost").disabled


def test_other_settings_end_the_trial_of_the_old_ones(home):
    page = opened()
    button(page, "Estimate cost").click().run()
    trial = page.session_state["train.trial"]
    page.text_input(key="train.finetune.seed").set_value("3").run()
    assert not page.exception and trial.done and page.session_state["train.trial"] is None


def test_what_went_wrong_in_a_trial_is_shown(home):
    page = opened()
    button(page, "Estimate cost").click().run()
    trial = page.session_state["train.trial"]
    trial.stop()
    trial.error = {"type": "OutOfMemory", "message": "Two steps need more memory.", "next_step": "Put less in."}
    page.run()
    assert "Two steps need more memory." in texts(page) and "Put less in." in texts(page)


def test_settings_that_do_not_fit_are_not_tried(home):
    page = opened()
    page.text_input(key="train.finetune.schedule.lr").set_value("0.0").run()
    assert "Estimate cost" not in [button.label for button in page.button]
    page = opened(model="minilmm")
    assert button(page, "Estimate cost").disabled


def test_a_chain_that_ships_is_queued_whole(home, monkeypatch, tmp_path):
    (tmp_path / "both.yaml").write_text(
        "# First one, then the other. More words.\ndataset: bc5cdr-slice\nsteps:\n"
        "- {name: first, kind: finetune, model: minilm}\n- {name: score, kind: evaluate, model: '@first'}\n"
    )
    monkeypatch.setattr(draft, "SPECS", tmp_path)
    draft._files.clear()
    page = opened()
    captions = [caption.value for caption in page.caption]
    assert plain("First one, then the other. Steps: first → score.") in captions
    next(button for button in page.button if button.label == "Queue").click().run()
    draft._files.clear()
    assert not page.exception and not page.error
    last, first = queue.jobs()
    assert (first.kind, last.kind, last.waits_for) == ("finetune", "evaluate", (first.id,))
    assert {link.label for link in page.get("page_link")} == {"first: queued", "score: queued"}


@pytest.mark.slow
def test_the_web_process_stays_light(home):
    """Drawing each kind imports no torch: this process may have it, so a fresh one is asked."""
    program = (
        "import sys\nfrom streamlit.testing.v1 import AppTest\n"
        f"page = AppTest.from_string({PAGE!r}, default_timeout=60)\n"
        "page.query_params['teacher'] = 'minilm-bc5cdr'\npage.run()\nassert not page.exception\n"
        "page.get('segmented_control')[0].set_value('pretrain').run()\nassert not page.exception\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("address", [{"teacher": HOSTILE}, {"model": HOSTILE}, {"from": HOSTILE}])
def test_names_that_look_like_markup_are_shown_as_text(home, address):
    page = press(opened(**address))
    interpreted = [element.value for kind in ("markdown", "caption", "header", "error") for element in page.get(kind)]
    for part in ("<img", ":red[x", "alpha$"):
        assert part not in "\n".join(interpreted)
    if "from" not in address:
        assert "There is no model" in texts(page) and "<img src=x" in texts(page)
        assert queue.jobs() == []


# Documents


def test_another_task_brings_its_data_and_options(home):
    page = opened()
    task = page.selectbox(key="train.finetune.task.name")
    assert task.options[:2] == ["Named entities in a text", "Labels of whole documents"]
    task.set_value("classification").run()
    assert not page.exception
    spec = spec_of(page)
    assert (spec.task.name, spec.dataset, spec.model) == ("classification", "mtsamples", "minilm")
    assert page.selectbox(key="train.finetune.dataset").options == ["mtsamples", "mtsamples-slice"]
    assert plain("14 labels: Cardiovascular / Pulmonary") in captions(page) and plain("train 1,313") in captions(page)
    page.selectbox(key="train.finetune.task.multi_label").set_value(True).run()
    assert spec_of(page).task.multi_label is True and plain("20 labels: ") in captions(page)
    page.selectbox(key="train.finetune.task.name").set_value("ner").run()
    assert spec_of(page).task.name == "ner" and spec_of(page).dataset == "bc5cdr"


def test_a_users_own_labelled_documents_are_read_and_a_bad_line_is_named(home, tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"text": "Fever", "label": "a"}\n{"text": "Rash", "label": "b"}\n')
    page = on_dataset(str(tmp_path), task="classification")
    assert plain("No problems found · a, b · documents: train 2, dev 2, test 2") in captions(page)
    (tmp_path / "dev.jsonl").write_text('{"text": "Fever"}\n')
    st.cache_data.clear()
    page.run()
    assert "dev.jsonl, line 1: an object of 1 fields without the field `label`" in texts(page)


def captions(page: AppTest) -> str:
    return "\n".join(caption.value for caption in page.caption)


@pytest.mark.parametrize("kind", ["distill", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_the_classifier_that_ships_is_offered_and_without_one_the_form_asks(home, monkeypatch, kind):
    field = "teacher" if kind == "distill" else "model"
    page = choose(opened(), kind)
    page.selectbox(key=f"train.{kind}.task.name").set_value("classification").run()
    assert page.selectbox(key=f"train.{kind}.{field}").options == ["minilm-mtsamples-l3"]
    assert f"{kind} needs {field}" not in texts(page)

    others = {name: entry for name, entry in zoo.entries().items() if entry.task != "classification"}
    monkeypatch.setattr("trainer.queue.published.entries", lambda: others)
    page = choose(opened(), kind)
    page.selectbox(key=f"train.{kind}.task.name").set_value("classification").run()
    assert not page.exception
    assert page.selectbox(key=f"train.{kind}.{field}").options == []
    assert f"{kind} needs {field}" in texts(page)


def test_models_to_average_are_chosen_in_a_list(home):
    page = choose(opened(), "average")
    assert "Average the weights" in captions(page) and spec_of(page) is None
    members = page.multiselect(key="train.average.model")
    assert "minilm-ncbi · MiniLM" in " ".join(members.options)
    page = members.set_value(["minilm-bc5cdr", "minilm-bc5cdr-l3"]).run()
    assert "minilm-bc5cdr-l3 differs from minilm-bc5cdr: layers 3 instead of 6" in texts(page)
    press(page)
    assert queue.jobs() == []


def test_a_stored_spec_with_a_number_no_longer_allowed_opens_with_that_field_red(home):
    job = queue.submit(specs.read("specs/smoke-ner.yaml"))
    old = job.spec | {"schedule": job.spec["schedule"] | {"steps": 10**30, "clip": 10**400}}
    change = update(store.job).where(store.job.c.id == job.id).values(spec=old)
    store.write(store.open_store(), lambda connection: connection.execute(change))
    page = opened(**{"from": job.id})
    assert not page.error and texts(page).count("Input should be less than or equal to") == 2
    assert page.text_input(key="train.finetune.schedule.steps").value == str(10**30)
    press(page)
    assert len(queue.jobs()) == 1
    shown = AppTest.from_string("from workbench.pages import jobs; jobs.render()", default_timeout=30)
    shown.query_params["job"] = job.id
    assert not shown.run().exception


def test_an_untouched_average_says_what_to_choose(home):
    page = choose(opened(), "average")
    captions = "\n".join(caption.value for caption in page.caption)
    assert "Fill in first: Model" in captions and "Correct the marked fields" not in captions
    assert not page.error and not texts(page)
    press(page)
    assert page.error[0].value == "The job was not queued. Correct 1 field:" and "two or more" in texts(page)
    assert queue.jobs() == []


def test_two_wrong_fields_are_both_marked_and_the_page_is_whole(home):
    page = on_dataset("./nowhere")
    page.text_input(key="train.finetune.schedule.lr").set_value("5").run()
    assert "There is no data set './nowhere'" in texts(page) and "less than 1" in texts(page)
    assert any(button.label == "Queue this job" for button in page.button)
    press(page)
    assert "The job was not queued" in page.error[0].value and [job.state for job in queue.jobs()] == ["cancelled"]


def test_what_splits_share_is_shown_beside_the_data_set(home, tmp_path):
    for split, text in {"train": "Fever\tB-Disease\n", "dev": "x\tO\n", "test": "fever\tB-Disease\n"}.items():
        (tmp_path / f"{split}.conll").write_text(text)
    page = on_dataset(str(tmp_path))
    captions = "\n".join(caption.value for caption in page.caption)
    assert plain("In both train and test: 1 sentence. This makes scores on test higher.") in captions
    assert plain("The dev split has no entity") in captions


def test_a_data_set_that_cannot_be_trained_on_says_what_check_says(home, tmp_path):
    for split, text in {"train": "a\tB-Disease\n", "dev": "b\tO\n", "test": "c\tO\nd\tB-Drug\n"}.items():
        (tmp_path / f"{split}.conll").write_text(text)
    page = on_dataset(str(tmp_path))
    (problem,) = datasets.check(tmp_path).problems
    assert str(problem) in texts(page) and "line 2: the entity type 'Drug' is not in train" in str(problem)
    press(page)
    assert [job.state for job in queue.jobs()] == ["cancelled"], "that of `on_dataset` alone"


def test_evaluate_offers_the_data_sets_that_fit_the_model(home):
    page = choose(opened(), "evaluate")

    def offered() -> list[str]:
        return page.selectbox(key="train.evaluate.dataset").options

    assert page.selectbox(key="train.evaluate.model").value == "minilm-bc5cdr"
    assert {"bc5cdr", "ncbi-disease"} <= set(offered()) and not {"craft", "mtsamples", "maccrobat"} & set(offered())
    page.selectbox(key="train.evaluate.model").set_value("minilm-ncbi").run()
    assert "bc5cdr" not in offered() and page.selectbox(key="train.evaluate.dataset").value in offered()
    assert spec_of(page).dataset.startswith("ncbi-disease") and not texts(page)
    press(page)
    assert [job.spec["model"] for job in queue.jobs()] == ["minilm-ncbi"]
