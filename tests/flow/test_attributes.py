"""Attributes of spans from a data set to a published model: trained with the tags, taught to a student, given with each
span. The data set has one rule, so a small model learns it in seconds: after "no" a finding is absent.
"""

import json
import shutil

import pytest
import torch

from trainer import datasets, fit, inference, models, zoo
from trainer.errors import UnknownName
from trainer.execute import execute
from trainer.run import Run, RunSpec
from trainer.spec import parse
from workbench.cli import findings
from workbench.explain import ExplainOptions, explain_text
from workbench.explain.targets import list_targets
from workbench.explain.targets import parse as parse_target

FINDINGS = ("fever", "cough", "pain", "nausea", "rash", "edema")
DRUGS = ("aspirin", "insulin", "warfarin")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def note(number: int) -> dict:
    """A note with a finding that is there, one that is not, and a drug without an attribute."""
    here, gone = FINDINGS[number % 6], FINDINGS[(number * 5 + 1) % 6]
    drug = DRUGS[number % 3]
    text = f"Patient has {here} but no {gone} today. Takes {drug}."
    if number % 2:
        text = f"There is no {gone}. Patient has {here} today. Takes {drug}."
    entities = []
    for word, label, value in ((here, "problem", "present"), (gone, "problem", "absent"), (drug, "drug", None)):
        start = text.index(f"{'no ' if value == 'absent' else ''}{word}") + (3 if value == "absent" else 0)
        attributes = {"assertion": value} if value else {}
        entities.append({"label": label, "start": start, "end": start + len(word), "attributes": attributes})
    return {"text": text, "entities": entities}


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """A data set of 120, 12 and 12 such notes, and text without labels beside it."""
    folder = tmp_path_factory.mktemp("notes") / "assertions"
    folder.mkdir()
    for split, numbers in (("train", range(120)), ("dev", range(12)), ("test", range(12))):
        (folder / f"{split}.spans.jsonl").write_text("".join(json.dumps(note(n)) + "\n" for n in numbers))
    text = folder.parent / "text"
    text.mkdir()
    (text / "train.txt").write_text("".join(note(n)["text"] + "\n" for n in range(60)))
    return folder


SCHEDULE = {"epochs": 2, "batch_size": 8, "max_tokens": 32, "lr": 1e-3}
TASK = {"name": "ner", "attributes": ["assertion"]}


def run(home, spec: dict, *, model, number: int, teacher=None, unlabelled=None, others=()):
    """A run that is executed here, and the folder of its model."""
    ready = RunSpec(
        id=f"00000000-{number}",
        attempt=1,
        threads=1,
        device="cpu",
        spec=parse(spec),
        model=model,
        teacher=teacher,
        others=others,
        dataset=datasets.resolve(spec["dataset"]),
        unlabelled=datasets.resolve(unlabelled) if unlabelled else None,
    )
    started = Run.create(home / "runs", ready)
    execute(started.folder)
    assert started.result.state == "succeeded", started.result.error
    return started, started.folder / started.result.artifact


@pytest.fixture(scope="module")
def teacher(notes, tmp_path_factory):
    """(run, model folder) of three layers of MiniLM that were trained on the notes."""
    small = {"base": "minilm", "layers": 3, "vocabulary": 1000}
    spec = {"kind": "finetune", "model": small, "dataset": str(notes), "task": TASK, "schedule": SCHEDULE}
    return run(tmp_path_factory.mktemp("home"), spec, model=zoo.resolve("minilm"), number=1)


def assertions_in(folder, text: str) -> dict[str, str | None]:
    """By mention the assertion that a model gives it."""
    model, tokenizer = models.load(str(folder))
    spans = inference.predict(text, model, tokenizer, name="x").to_json()["spans"]
    return {text[s["start"] : s["end"]]: s.get("attributes", {}).get("assertion", {}).get("value") for s in spans}


UNSEEN = "Patient has nausea but no rash today. Takes insulin."
RIGHT = {"nausea": "present", "rash": "absent", "insulin": None}


def test_tags_and_attributes_are_learned_in_one_model(teacher):
    trained, folder = teacher
    metrics = trained.result.report["metrics"]
    for name in ("f1", "overlap_f1", "assertion.accuracy", "assertion.macro_f1", "assertion.end_to_end_f1"):
        assert metrics[name] == 1.0, name
    assert assertions_in(folder, UNSEEN) == RIGHT
    config = json.loads((folder / "config.json").read_text())
    assert config["stillroom_attributes"] == {"assertion": ["problem"]}
    assert list(config["id2label"].values())[-2:] == ["@assertion=absent", "@assertion=present"]
    assert fit.read_model(zoo.resolve(str(folder))).attributes == ("assertion",)
    assert "Each problem has one assertion: absent, present." in (folder / "README.md").read_text()


def test_the_reason_for_a_value_is_found_among_the_words_around_it(teacher):
    model, tokenizer = models.load(str(teacher[1]))
    place = UNSEEN.index("rash"), UNSEEN.index("rash") + 4
    options = ExplainOptions(context=True, orders=2)
    answer = explain_text(UNSEEN, model, tokenizer, f"{place[0]}:{place[1]}:@assertion=absent", options, name="x")
    best = max(answer.attributions, key=lambda part: part.score)
    span = next(s for s in inference.predict(UNSEEN, model, tokenizer, name="x").spans if (s.start, s.end) == place)
    assert answer.probability == pytest.approx(span.attributes["assertion"].score, abs=1e-5)
    assert UNSEEN[best.start : best.end] == "no"
    assert best.score > 2 * max(part.score for part in answer.attributions if part != best)


def test_what_is_listed_can_be_asked_and_an_unknown_value_names_the_known_ones(teacher):
    model, tokenizer = models.load(str(teacher[1]))
    listed = [each["target"] for each in list_targets(inference.predict(UNSEEN, model, tokenizer, name="x"))]
    assert sorted(each.partition("@")[2] for each in listed) == ["", "", "", "assertion=absent", "assertion=present"]
    assert [str(parse_target(each)) for each in listed] == listed
    with pytest.raises(UnknownName, match="Known: @assertion=absent, @assertion=present"):
        explain_text(UNSEEN, model, tokenizer, "0:7:@assertion=doubtful", name="x")


def test_the_table_of_a_prediction_has_a_column_for_an_attribute(teacher, capsys):
    model, tokenizer = models.load(str(teacher[1]))
    findings.show_prediction(UNSEEN, inference.predict(UNSEEN, model, tokenizer, name="x"))
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["label", "assertion", "start", "end", "score", "text"]
    assert {row.split()[-1]: row.split()[1] for row in rows[:3]} == {
        "nausea": "present",
        "rash": "absent",
        "insulin": "–",
    }


def test_a_student_learns_both_from_its_teacher_on_text_without_labels(teacher, notes, tmp_path):
    spec = {
        "kind": "distill",
        "teacher": str(teacher[1]),
        "student": {"layers": 2},
        "dataset": str(notes),
        "limit": 8,
        "recipe": {"name": "task_kd", "unlabelled": str(notes.parent / "text")},
        "schedule": SCHEDULE | {"epochs": 5, "lr": 2e-3},
    }
    resolved = zoo.resolve(str(teacher[1]))
    taught, folder = run(
        tmp_path, spec, model=resolved, teacher=resolved, unlabelled=str(notes.parent / "text"), number=2
    )
    assert taught.result.report["metrics"]["assertion.accuracy"] == 1.0
    assert assertions_in(folder, UNSEEN) == RIGHT


@pytest.mark.slow
def test_an_average_keeps_the_attributes(teacher, notes, tmp_path):
    folder = str(teacher[1])
    other = shutil.copytree(folder, tmp_path / "other")
    spec = {"kind": "average", "model": [folder, str(other)], "dataset": str(notes)}
    _, averaged = run(tmp_path, spec, model=zoo.resolve(folder), others=(zoo.resolve(str(other)),), number=3)
    assert assertions_in(averaged, UNSEEN) == RIGHT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": {"name": "ner", "attributes": ["negation"]}},
            "found negation; the train split of {data} has assertion",
        ),
        (
            {"kind": "distill", "teacher": "minilm-ncbi", "task": TASK, "recipe": "task_kd"},
            "found assertion; the teacher gives no attributes.",
        ),
    ],
)
def test_attributes_that_cannot_be_learned_are_refused(changes, message, notes):
    spec = parse(
        {"kind": "finetune", "model": "minilm", "dataset": str(notes)}
        | changes
        | ({"model": None, "student": {"layers": 3}} if "teacher" in changes else {})
    )
    start = fit.read_model(zoo.resolve(changes.get("teacher", "minilm")))
    data = fit.survey(spec, datasets.resolve(str(notes)), start)
    wrong = fit.find_problems(spec, data=data, start=start, teacher=start if "teacher" in changes else None)
    assert any(field == "task.attributes" and message.format(data=notes) in text for field, text in wrong)


def test_a_value_that_train_lacks_is_refused(notes, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.spans.jsonl").write_text((notes / f"{split}.spans.jsonl").read_text())
    (folder / "dev.spans.jsonl").write_text(json.dumps(note(1)).replace('"absent"', '"doubtful"') + "\n")
    spec = parse({"kind": "finetune", "model": "minilm", "dataset": str(folder), "task": TASK})
    start = fit.read_model(zoo.resolve("minilm"))
    wrong = fit.find_problems(spec, data=fit.survey(spec, datasets.resolve(str(folder)), start), start=start)
    assert (
        "task.attributes",
        "assertion has the value 'doubtful' in dev but not in train. Add examples of it to train, "
        "or remove it from dev.",
    ) in wrong


def test_a_spec_without_attributes_keeps_its_digest():
    """Specs are written as before there were attributes; the digest was taken then."""
    spec = parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr"})
    assert spec.digest == "f6deba40173d0a853e61b633e046faa678e6ff11bcde64ee6db8605ed8e63d15"
    assert "attributes" not in spec.canonical
