"""The Train page: the form is the schema, the YAML is the form, errors stand beside fields, a job is queued once."""

import os
from pathlib import Path

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from trainer import queue, store
from trainer import spec as specs
from trainer.engines import Process
from trainer.spec import JobSpec, Schedule
from workbench import form
from workbench.pages import plain

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
    said = [yaml.safe_load(code.value) for code in page.code]
    return next((specs.parse(given) for given in said if isinstance(given, dict)), None)


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
    assert any(job.id in element.value and "number 1 in line" in element.value for element in page.markdown)
    assert page.get("page_link")[0].proto.query_string == f"job={job.id}"


def test_every_shipped_finetuning_spec_is_one_click_away(home):
    page = opened()
    for path in Path("specs").glob("*.yaml"):
        shipped = specs.read(path)
        if shipped.kind != "finetune":
            continue
        page.get("pills")[0].set_value(path.stem).run()
        assert spec_of(page).digest == shipped.digest


def test_every_field_of_the_schema_has_a_widget_with_its_label_help_and_bounds(home):
    page = opened()
    widgets = {widget.key: widget for kind in ("number_input", "selectbox") for widget in page.get(kind)}
    for name, info in Schedule.model_fields.items():
        widget = widgets[f"train.schedule.{name}"]
        assert widget.help == info.description
    assert widgets["train.seed"].min == 0 and widgets["train.seed"].max == 2**31 - 1
    assert widgets["train.schedule.steps"].min == 1
    assert widgets["train.schedule.max_tokens"].min == 8
    assert widgets["train.task.labelling"].options == ["first", "all"]
    assert not {"train.compute.engine", "train.compute.devices", "train.kind"} & set(widgets)  # nothing to choose


def test_a_new_field_of_the_schema_appears_by_itself():
    class Longer(Schedule):
        dropout: float = specs.Field(0.1, ge=0, le=0.9, description="Share of activations set to zero")

    class Spec(JobSpec):
        schedule: Longer = Longer.model_validate({})

    names = {leaf.name: leaf for leaf in form.leaves(Spec, {"task": "ner", "recipe": "finetune"})}
    leaf = names["schedule.dropout"]
    assert (leaf.label, leaf.type, leaf.bounds) == ("Dropout", float, {"ge": 0, "le": 0.9})


def test_the_yaml_follows_the_form(home):
    page = opened()
    page.number_input(key="train.schedule.lr").set_value(0.001).run()
    page.number_input(key="train.limit").set_value(50).run()
    page.selectbox(key="train.task.labelling").set_value("all").run()
    spec = spec_of(page)
    assert (spec.schedule.lr, spec.limit, spec.task.labelling) == (0.001, 50, "all")


def test_a_wrong_value_is_said_at_its_field_and_queues_nothing(home):
    page = opened()
    page.number_input(key="train.schedule.lr").set_value(0.0).run()
    assert "Input should be greater than 0" in texts(page)
    assert spec_of(page) is None
    press(page)
    assert page.error[0].value == "Nothing was queued: 1 field to correct."
    assert queue.jobs() == []
    page.number_input(key="train.schedule.lr").set_value(0.001).run()
    assert not page.error and spec_of(page)


def test_a_problem_of_two_fields_is_said_at_both(home):
    page = opened()
    page.number_input(key="train.schedule.steps").set_value(5).run()
    assert texts(page).count("give epochs or steps, not both") == 2
    page.number_input(key="train.schedule.epochs").set_value(None).run()
    assert spec_of(page).schedule.steps == 5


def test_an_unknown_model_is_said_at_its_field_and_queues_nothing(home):
    page = press(opened(model="minilmm"))
    assert "There is no model 'minilmm'. Did you mean 'minilm'?" in texts(page)
    assert queue.jobs() == []


def on_dataset(reference: str) -> AppTest:
    """The page with this data set chosen. AppTest cannot type into a select box, so an earlier job names it."""
    spec = specs.parse({"kind": "finetune", "model": "minilm", "dataset": reference})
    return opened(**{"from": queue.cancel(queue.submit(spec).id).id})


def data_set(folder, *, extra: str = "") -> str:
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.conll").write_text("Fever\tB-Disease\n.\tO\n\n" * 20 + extra)
    return str(folder)


def test_a_folder_of_ones_own_is_read_and_its_facts_are_shown(home, tmp_path):
    page = on_dataset(data_set(tmp_path / "ward"))
    facts = plain("Read without a problem · Disease · sentences: train 20, dev 20, test 20")
    assert facts in [caption.value for caption in page.caption]


def test_the_bad_line_of_a_folder_is_named_and_nothing_is_queued(home, tmp_path):
    page = on_dataset(data_set(tmp_path / "ward", extra="Cough\tB-Disease\textra\n\n"))
    press(page)
    assert "line 61" in texts(page)
    assert "Cough" not in texts(page)
    assert page.error[0].value.startswith("Nothing was queued")
    assert [job.state for job in queue.jobs()] == ["cancelled"]


def test_a_folder_that_is_not_there_is_an_error_at_the_field(home):
    page = on_dataset("./nowhere")
    assert "There is no data set './nowhere'" in texts(page)


def test_submitting_twice_says_that_the_job_is_there(home):
    page = press(opened())
    assert any("The job is queued" in element.value for element in page.markdown)
    press(page)
    assert any("This very job is already queued" in element.value for element in page.markdown)
    assert len(queue.jobs()) == 1


def test_what_was_queued_is_not_said_of_another_job(home):
    page = press(opened())
    page.number_input(key="train.seed").set_value(7).run()
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


@pytest.mark.parametrize("address", [{"model": HOSTILE}, {"from": HOSTILE}])
def test_names_that_look_like_markup_are_shown_as_text(home, address):
    page = press(opened(**address))
    interpreted = [
        element.value for kind in ("markdown", "caption", "subheader", "error") for element in page.get(kind)
    ]
    for part in ("<img", ":red[x", "alpha$"):
        assert part not in "\n".join(interpreted)
    if "model" in address:
        assert "There is no model" in texts(page) and "<img src=x" in texts(page)
        assert queue.jobs() == []
