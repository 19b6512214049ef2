"""Whether a job can run: each rule says the same in `submit`, on the Train page's list, in a trial and in the run.

`refused` asks all of them and wants one answer; what all of them let through is trained for two steps, really.
"""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.test_data_rules import classified, tagged

from trainer import datasets, queue, zoo
from trainer.chain import parse as parse_chain
from trainer.errors import BadSpec
from trainer.evaluation import document_scores, span_scores
from trainer.execute import execute
from trainer.run import Run, RunSpec
from trainer.spec import parse
from trainer.training import preflight
from workbench import cli
from workbench.launch import submission

SCHEDULE = {"steps": 2, "batch_size": 2, "max_tokens": 16}


def ready(spec, number=1):
    """What a worker prepares."""
    resolved = {
        name: zoo.resolve(reference)
        for name, reference in (("model", spec.start), ("teacher", spec.teacher))
        if reference
    }
    others = tuple(zoo.resolve(name) for name in spec.others)
    unlabelled = datasets.resolve(spec.unlabelled) if spec.unlabelled else None
    held = {"dataset": datasets.resolve(spec.dataset), "unlabelled": unlabelled, "others": others} | resolved
    return RunSpec(id=f"{spec.digest[:8]}-{number}", attempt=1, spec=spec, threads=1, device="cpu", **held)


def ended(spec, home):
    """The result of a run in this process."""
    run = Run.create(home / "runs", ready(spec))
    execute(run.folder)
    return run.result


def refused(home, **fields) -> dict[str, str]:
    """What is wrong by field: the same to `submit`, to the form, to a trial and to the run; nothing is queued."""
    spec = parse({"schedule": SCHEDULE} | fields)
    with pytest.raises(BadSpec) as caught:
        submission.submit(spec)
    message = caught.value.message
    assert queue.jobs() == [] and list(submission.inspect(spec).problems) == list(caught.value.fields)
    result = ended(spec, home)
    assert (result.state, result.error["message"]) == ("failed", message)
    if spec.kind in ("finetune", "distill", "pretrain"):
        assert preflight.answer(ready(spec), cache=home)["error"]["message"] == message
    return dict(reversed(caught.value.fields))


def taught(teacher, dataset, **student):
    return {
        "kind": "distill",
        "teacher": str(teacher),
        "student": {"layers": 1} | student,
        "recipe": "task_kd",
        "dataset": str(dataset),
    }


@pytest.fixture
def words(tmp_path):
    return tagged(tmp_path / "words")


@pytest.fixture
def documents(tmp_path):
    return classified(tmp_path / "documents")


def test_a_data_set_that_cannot_be_trained_on_is_refused_with_the_words_of_check(home, tiny_model, tmp_path):
    cases = {
        "ner": [
            tagged(tmp_path / "foreign", test="d\tB-Drug\n"),
            tagged(tmp_path / "nothing", train="a\tO\n"),
            tagged(tmp_path / "missing", dev=None),
            tagged(tmp_path / "empty", test=""),
            tagged(tmp_path / "rows", train="a\tB-Disease\tx\n"),
            classified(tmp_path / "of-another-task"),
        ],
        "classification": [
            classified(tmp_path / "one-class", train=["eye", "eye"]),
            classified(tmp_path / "unseen", dev=["skin"]),
            classified(tmp_path / "unseen-of-several", field="labels", dev=[["skin"]]),
            tagged(tmp_path / "words"),
        ],
    }
    for task, folders in cases.items():
        for folder in folders:
            problem = refused(home, kind="finetune", model=str(tiny_model), dataset=str(folder), task=task)["dataset"]
            assert problem == str(datasets.check(folder, task=task).problems[0])


def test_models_that_are_not_trained_need_the_head_and_the_labels(
    home, tiny_model, tiny_classifier, words, documents, tmp_path
):
    scored = {"kind": "evaluate", "dataset": str(words), "task": "ner"}
    assert (
        "it is a model for classification; the task is ner"
        in refused(home, model=str(tiny_classifier), **scored)["model"]
    )
    assert "it has no head; the task is ner" in refused(home, model="minilm", **scored)["model"]
    other = {"kind": "evaluate", "dataset": str(documents), "task": "classification"}
    assert "it is a model for ner" in refused(home, model=str(tiny_model), **other)["model"]
    message = refused(home, model=str(tiny_classifier), **other)["dataset"]
    assert "documents/test.jsonl, line 1: the model does not know the label 'eye'; it knows Cardiovascular" in message
    foreign = tagged(tmp_path / "foreign", train=None, dev=None, test="d\tB-Disease\ne\tB-Drug\n")
    message = refused(home, model=str(tiny_model), **scored | {"dataset": str(foreign)})["dataset"]
    assert "foreign/test.conll, line 2: the model does not know the entity type 'Drug'; it knows Disease." in message
    average = {
        "kind": "average",
        "model": [str(tiny_classifier), str(tiny_model)],
        "dataset": str(words),
        "task": "ner",
    }
    assert "it is a model for classification" in refused(home, **average)["model.0"]


def test_a_teacher_needs_the_head_the_labels_and_their_number(
    home, tiny_model, tiny_classifier, words, documents, tmp_path
):
    assert "it is a model for classification" in refused(home, **taught(tiny_classifier, words))["teacher"]
    assert "it has no head" in refused(home, **taught("minilm", words))["teacher"]
    foreign = tagged(tmp_path / "foreign", dev="d\tB-Drug\n")
    message = refused(home, **taught(tiny_model, foreign))["dataset"]
    assert "foreign/dev.conll, line 1: the teacher does not know the entity type 'Drug'; it knows Disease." in message
    several = classified(tmp_path / "several", field="labels")
    message = refused(home, **taught(tiny_classifier, several), task="classification")["teacher"]
    assert "it gives a document one label; the data set has several labels" in message
    (tmp_path / "notes.txt").write_text("".join(f"Note {number}.\n" for number in range(9)))
    masked = taught(tiny_model, tmp_path / "notes.txt") | {"recipe": "distil"}
    assert "it is a model for ner; the task is mlm" in refused(home, **masked)["teacher"]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"vocabulary": 30_523}, "model.vocabulary", "the base has 30,522 word pieces"),
        ({"vocabulary": 100}, "model.vocabulary", "special tokens and single characters alone"),
        ({"layers": 3}, "model.layers", "3 layers"),
        ({"heads": 3, "start": "random"}, "model.heads", "3 heads do not divide"),
        ({"attention": "sliding_window", "max_tokens": 64, "layers": 1}, "schedule.max_tokens", "reads up to 64"),
    ],
)
def test_sizes_that_do_not_fit_their_base(home, tiny_model, words, change, field, message):
    schedule = SCHEDULE | {"max_tokens": 600 if "attention" in change else 16}
    model = {"base": str(tiny_model)} | change
    assert message in refused(home, kind="finetune", model=model, dataset=str(words), schedule=schedule)[field]


@pytest.mark.parametrize("vocabulary", [0, -5, 99])
def test_a_vocabulary_of_nothing_is_no_spec(words, vocabulary):
    with pytest.raises(BadSpec, match="vocabulary"):
        parse({"kind": "finetune", "model": {"base": "minilm", "vocabulary": vocabulary}, "dataset": str(words)})


def test_a_window_longer_than_the_model_reads(home, tiny_model, words):
    spec = {"kind": "finetune", "model": str(tiny_model), "dataset": str(words)}
    assert (
        "reads up to 512"
        in refused(home, **spec, schedule={"steps": 2, "batch_size": 2, "max_tokens": 600})["schedule.max_tokens"]
    )


def test_a_chain_is_checked_as_far_as_it_tells(home, tiny_model, tiny_classifier, words, documents, tmp_path):
    foreign = tagged(tmp_path / "foreign", test="d\tB-Drug\n")
    first = {"name": "a", "kind": "finetune", "model": str(tiny_model), "dataset": str(words)}
    scored = {"kind": "evaluate", "model": "@a"}
    steps = [
        {"name": "foreign", "dataset": str(foreign)},
        {"name": "documents", "dataset": str(documents), "task": "classification"},
        {"name": "fits", "dataset": str(words)},
    ]
    chain = parse_chain({"schedule": SCHEDULE, "steps": [first, *(scored | step for step in steps)]})
    with pytest.raises(BadSpec) as caught:
        submission.submit(chain)
    wrong = dict(caught.value.fields)
    assert set(wrong) == {"steps.foreign.dataset", "steps.documents.model"} and queue.jobs() == []
    assert "the model does not know the entity type 'Drug'; it knows Disease" in wrong["steps.foreign.dataset"]
    jobs = submission.submit(parse_chain({"schedule": SCHEDULE, "steps": [first, scored | steps[2]]}))
    late = parse(scored | {"model": jobs["a"].id, "dataset": str(documents), "task": "classification"})
    assert [field for field, _ in submission.inspect(late).problems] == ["model"], "a run that is queued is known too"


def test_the_command_line_queues_nothing_that_cannot_run(home, tiny_model, tmp_path, capsys):
    path = tagged(tmp_path / "foreign", test="d\tB-Drug\n")
    (tmp_path / "job.yaml").write_text(f"kind: finetune\nmodel: {tiny_model}\ndataset: {path}\n")
    answers = []
    for words in (["submit", tmp_path / "job.yaml", "--json"], ["datasets", "check", path, "--json"]):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        assert ended.value.code == 2
        answers.append(json.loads(capsys.readouterr().out))
    (field,), (problem,) = answers[0]["error"]["fields"], answers[1]["problems"]
    assert field["problem"] == f"{problem['file']}, line {problem['line']}: {problem['message']} {problem['next_step']}"
    assert "train a model on this data set" not in field["problem"] and queue.jobs() == []


def trained(home, name, fields):
    spec = submission.resolve_references(parse({"schedule": SCHEDULE} | fields))
    result = ended(spec, home)
    assert result.state == "succeeded", result.error
    return result


TYPES = st.sampled_from(["Drug", "Drug", "O", "I-x"])
SENTENCE = st.lists(
    st.tuples(st.sampled_from(["fever", "no", "7", "…", "ß"]), st.one_of(st.none(), TYPES)), min_size=1, max_size=4
)
SPLIT = st.lists(SENTENCE, min_size=0, max_size=3)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({split: SPLIT for split in ("train", "dev", "test")}))
def test_words_that_pass_check_are_trained_on(home, tiny_model, tmp_path_factory, splits):
    folder = tmp_path_factory.mktemp("drawn") / "words"
    text = {
        split: "".join(
            "".join(f"{word}\t{'B-' + kind if kind else 'O'}\n" for word, kind in each) + "\n" for each in rows
        )
        for split, rows in splits.items()
    }
    tagged(folder, **text)
    fields = {"kind": "finetune", "model": str(tiny_model), "dataset": str(folder)}
    if datasets.check(folder, task="ner").ok:
        trained(home, "words", fields)
    else:
        with pytest.raises(BadSpec):
            submission.resolve_references(parse(fields))


LABELS = st.sampled_from(["eye", "heart", "O", "a;b"])


@pytest.mark.parametrize("field", ["label", "labels"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_documents_that_pass_check_are_trained_on(home, tiny_classifier, tmp_path_factory, field, data):
    folder = tmp_path_factory.mktemp("drawn") / "documents"
    row = LABELS if field == "label" else st.lists(LABELS, unique=True, max_size=2)
    classified(
        folder, field=field, **{split: data.draw(st.lists(row, max_size=4)) for split in ("train", "dev", "test")}
    )
    fields = {"kind": "finetune", "model": str(tiny_classifier), "dataset": str(folder), "task": "classification"}
    if datasets.check(folder, task="classification").ok:
        trained(home, "documents", fields)
    else:
        with pytest.raises(BadSpec):
            submission.resolve_references(parse(fields))


def test_invisible_text_does_not_count_as_text(home, tiny_model, tmp_path):
    (tmp_path / "notes.txt").write_text("\u200b\n\u200b\u200b\n\u200e \u200b\n")
    message = refused(home, kind="pretrain", model=str(tiny_model), dataset=str(tmp_path / "notes.txt"))["dataset"]
    assert "the file holds no document" in message


@pytest.mark.parametrize("documents", [3, 4, 60])
def test_text_that_passes_check_is_trained_on(home, tiny_model, tmp_path, documents):
    path = tmp_path / "notes.txt"
    path.write_text("".join(f"Note {number} about the fever of a patient.\n" for number in range(documents)))
    assert datasets.check(path, task="mlm").ok
    trained(home, "text", {"kind": "pretrain", "model": str(tiny_model), "dataset": str(path)})
    shutil.rmtree(home / "cache", ignore_errors=True)


def test_an_evaluation_says_what_its_scores_rest_on(home, tiny_model, tmp_path, capsys):
    path = tagged(tmp_path / "mine", train="a\tO\n\nD\tO\n", test="d\tB-Disease\n")
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--model", str(tiny_model), "--dataset", str(path), "--json"])
    report = json.loads(capsys.readouterr().out)
    notes = [
        "In both train and test: 1 sentence. This makes scores on test higher.",
        "In test and not in train: the entity type Disease.",
    ]
    assert report["notes"] == notes
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--model", str(tiny_model), "--dataset", str(path)])
    assert all(note in capsys.readouterr().out.replace("\n", " ") for note in notes[:1])
    result = ended(
        parse({"kind": "evaluate", "model": str(tiny_model), "dataset": str(path), "schedule": SCHEDULE}), home
    )
    assert result.report["notes"] == notes, "the job page draws them from here"


def test_labels_that_a_data_set_does_not_mark_have_no_part_in_its_scores():
    gold = [["B-Disease", "O", "O"]]
    predicted = [["B-Disease", "B-Drug", "I-Drug"]]
    assert span_scores.scores(gold, predicted)["f1"] < 1, "a prediction that nobody could call right"
    left, outside = span_scores.drop_unannotated(predicted, {"Disease"})
    assert span_scores.scores(gold, left)["f1"] == 1 and outside == {"Drug": 1}
    assert span_scores.drop_unannotated(predicted, {"Disease", "Drug"}) == (predicted, {}), (
        "marked in another split: it counts"
    )

    decided = np.array([[True, False, False], [False, False, True]])
    gold = np.array([[True, False, False], [False, True, False]])
    graded = document_scores.Answers(("eye", "heart", "skin"), gold, decided, decided.astype(float), False)
    left, outside = document_scores.drop_unannotated(graded, {"eye", "heart"})
    scores = document_scores.metrics(left)
    assert outside == {"skin": 1} and left.labels == ("eye", "heart") and "f1.skin" not in scores
    assert (scores["accuracy"], scores["macro_f1"]) == (0.5, 0.5), "its document is wrong all the same"
    assert document_scores.metrics(graded)["macro_f1"] == pytest.approx(1 / 3)


def test_a_label_outside_the_data_set_is_reported(home, tiny_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    names = ["O", "B-Disease", "B-Drug"]  # untrained, it says the last here and there
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    (model / "config.json").write_text(json.dumps(config))
    path = tagged(tmp_path / "mine", test="fever\tB-Disease\n\nno\tO\n\npain\tO\n")
    report = ended(
        parse({"kind": "evaluate", "model": str(model), "dataset": str(path), "schedule": SCHEDULE}), home
    ).report
    outside = report.get("not_annotated", {})
    assert outside["Drug"] > 0 and "f1.Drug" not in report["metrics"]
    assert any("also predicts Drug" in note and "count neither for nor against" in note for note in report["notes"])
