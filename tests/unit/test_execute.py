"""What a run reports: retention beside the teacher's scores."""

import json
import math
from types import SimpleNamespace

import pytest

from trainer import datasets, models, zoo
from trainer.datasets.rows import words
from trainer.execute import _max_tokens, _retention, _with_prefix, execute
from trainer.models.heads import document_reading
from trainer.run import Result, Run, RunSpec
from trainer.spec import parse


def test_retention_is_the_share_of_the_teachers_score():
    shares = _retention("f1", {"f1": 0.6, "precision": 0.9}, {"f1": 0.8, "precision": 0.5})
    assert shares == {"teacher_test_f1": 0.8, "teacher_test_precision": 0.5, "retention": pytest.approx(0.75)}
    assert _retention("f1", {"f1": 0.6}, {}) == {}, "without a teacher there is nothing to keep"


def test_a_teacher_that_scores_nothing_leaves_no_retention():
    metrics = _retention("f1", {"f1": 0.6}, {"f1": 0.0})
    assert math.isnan(metrics["retention"])
    written = json.loads(Result(state="succeeded", metrics=metrics).model_dump_json())
    assert written["metrics"]["retention"] is None


def test_events_carry_the_scores_of_the_whole_split():
    assert _with_prefix("dev", {"f1": 0.5, "f1.Disease": 0.4}) == {"dev_f1": 0.5}


@pytest.mark.parametrize(("asked", "read"), [(512, 512), (48, 48), (2048, 512)])
def test_a_tagger_is_scored_in_the_windows_that_are_asked_for_and_not_in_those_it_reads_notes_in(asked, read):
    fields = {"kind": "evaluate", "model": "minilm-ncbi", "dataset": "ncbi-disease"}
    spec = parse(fields | {"schedule": {"max_tokens": asked, "batch_tokens": asked}})
    model, tokenizer = models.load("minilm-ncbi")
    assert document_reading(model)["max_tokens"] == 64
    assert _max_tokens(SimpleNamespace(spec=SimpleNamespace(spec=spec)), model, tokenizer) == read


def test_what_reading_leaves_out_of_the_data_is_in_the_log_and_on_the_model_card(home, tiny_model, tmp_path, caplog):
    text = "lung\ncancer and left and right kidney pain"
    rows = [
        "T1\tDisease 0 4;5 11\tlung cancer",
        "T2\tDisease 16 20;31 37\tleft kidney",
        "T3\tDisease 31 42\tkidney pain",
    ]
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "data" / split / "d.txt").write_text(f"{text} {split}")
        (tmp_path / "data" / split / "d.ann").write_text(
            "".join(f"{row}\n" for row in [*rows, "R1\tOn Arg1:T1 Arg2:T3"])
        )
    fields = {"kind": "finetune", "model": str(tiny_model), "dataset": str(tmp_path / "data")}
    spec = parse(fields | {"schedule": {"steps": 1, "batch_size": 1, "max_tokens": 64}})
    resolved = {"model": zoo.resolve(spec.model), "dataset": datasets.resolve(spec.dataset)}
    run = Run.create(home / "runs", RunSpec(id="00000000-1", attempt=1, spec=spec, threads=1, device="cpu", **resolved))
    with caplog.at_level("INFO"):
        assert execute(run.folder) == 0, run.result
    note = "train: entities 3 given, 2 kept; overlapping a longer one: 1"
    assert note in caplog.text
    card = (run.folder / "artifacts" / "model" / "README.md").read_text()
    pieces = "in several pieces, of which the longest counts: 1"
    assert f"- {note}; {pieces}; relations and other annotations, not used: 1." in card
    assert run.result.metrics["test_f1"] >= 0 and "kidney" not in caplog.text + card


def test_a_run_trained_with_an_older_word_splitting_does_not_continue(home, tiny_model, monkeypatch):
    """Half its steps would have learned other labels; from the start it can be run again."""
    fields = {"kind": "finetune", "model": str(tiny_model), "dataset": "ncbi-disease-slice", "limit": 4}
    spec = parse(fields | {"schedule": {"steps": 1, "batch_size": 1, "max_tokens": 64}})
    resolved = {"model": zoo.resolve(spec.model), "dataset": datasets.resolve(spec.dataset)}
    first, second = (
        Run.create(
            home / "runs", RunSpec(id="00000000-1", attempt=attempt, spec=spec, threads=1, device="cpu", **resolved)
        )
        for attempt in (1, 2)
    )
    assert execute(first.folder) == 0, first.result
    monkeypatch.setattr(words, "VERSION", words.VERSION + 1)
    assert execute(second.folder) == 1
    assert "--fresh" in json.dumps(second.result.error)
