"""The command line with a real model: a note to a comparison, and a spec to a model that can be compared."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import cli

TEXT = (
    "Pt with ataxia-telangiectasia\r\nand breast cancer 😀, cafe\u0301 au lait spots.\rNo nausea; عدوى was treated.\n"
    * 30
)


@pytest.fixture
def stillroom(capfd, home):
    """Run the command line in this process: stillroom(*words) -> (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        return ended.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def note(tmp_path) -> Path:
    path = tmp_path / "note.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_predict_prints_one_document_with_offsets_of_the_file(own_process, stillroom, tiny_model, note):
    """Nothing else may reach stdout, also in a process of its own, as a script would call it."""
    words = ["predict", "--model", tiny_model, "--text-file", note, "--json"]
    if own_process:
        done = subprocess.run([sys.executable, "-m", "workbench.cli", *words], capture_output=True, timeout=120)
        code, out = done.returncode, done.stdout
    else:
        code, out, _ = stillroom(*words)
    assert code == 0
    document = json.loads(out)
    assert set(document) == {"model", "task", "spans", "labels", "coverage", "cost"}
    assert set(document["coverage"]) == {"tokens", "tokens_read", "windows", "unread"}
    assert set(document["cost"]) == {"latency_ms", "tokens_per_second"}
    assert (document["model"], document["task"], document["labels"]) == (str(tiny_model), "ner", [])
    assert document["coverage"]["windows"] > 1
    assert document["coverage"]["unread"] == []
    assert document["spans"], "random weights find something"
    with note.open(encoding="utf-8", newline="") as file:
        text = file.read()
    for span in document["spans"]:
        assert set(span) == {"start", "end", "label", "score"}
        assert 0 <= span["start"] < span["end"] <= len(text)
        covered = text[span["start"] : span["end"]]
        assert covered == covered.strip(), "borders lie on words, not on white space"


def test_predict_says_what_was_not_read(stillroom, tiny_model, note):
    words = ["predict", "--model", tiny_model, "--text-file", note, "--reading", "truncate", "--max-tokens", 64]
    coverage = json.loads(stillroom(*words, "--json")[1])["coverage"]
    assert coverage["windows"] == 1
    assert coverage["tokens_read"] < coverage["tokens"]
    assert coverage["unread"][-1][1] == len(TEXT)
    code, out, _ = stillroom(*words)
    assert code == 0
    assert "Not read: " in out
    assert "Disease" in out


def test_compare_names_arms_as_they_were_written(stillroom, tiny_model, note):
    arms = [f"{tiny_model}", f"{tiny_model}@truncate:64"]
    words = ["compare", "--model", arms[0], "--model", arms[1], "--text-file", note]
    code, out, err = stillroom(*words, "--json")
    document = json.loads(out)
    assert code == 0
    assert set(document) == {"predictions", "agreement", "disagreements"}
    assert [prediction["model"] for prediction in document["predictions"]] == arms
    assert 0 <= document["agreement"] < 1
    assert document["disagreements"]
    for item in document["disagreements"]:
        assert set(item) == {"start", "end", "votes"}
        assert set(item["votes"]) == set(arms)
    code, out, _ = stillroom(*words)
    assert code == 0
    assert f"Disagreements: {len(document['disagreements'])};" in out


def test_evaluate_prints_scores_intervals_and_cost(stillroom, tiny_model):
    words = ["evaluate", "--model", tiny_model, "--dataset", "ncbi-disease-slice", "--limit", 20]
    code, out, _ = stillroom(*words, "--json")
    report = json.loads(out)
    assert code == 0
    assert {"metrics", "n", "intervals", "cost"} <= set(report)
    assert report["n"] == 20
    assert {"f1", "precision", "recall"} <= set(report["metrics"])
    low, high = report["intervals"]["f1"]
    assert low <= report["metrics"]["f1"] <= high
    assert {"params", "disk_bytes", "latency_ms_p50", "latency_ms_p95_at_4096", "peak_memory_bytes"} <= set(
        report["cost"]
    )
    code, out, _ = stillroom(*words, "--split", "dev")
    assert code == 0
    assert "95 % interval" in out


def test_evaluate_refuses_labels_that_the_model_does_not_know(stillroom, tiny_model):
    code, _, err = stillroom("evaluate", "--model", tiny_model, "--dataset", "bc5cdr-slice", "--limit", 20)
    assert code == 2
    assert "bc5cdr-slice/test.conll, line" in err
    assert "'Chemical'" in err


def test_an_exported_model_finds_the_same(stillroom, tiny_model, note, tmp_path):
    assert stillroom("export", "--model", tiny_model, "--out", tmp_path / "copy")[0] == 0
    spans = [
        json.loads(stillroom("predict", "--model", model, "--text-file", note, "--json")[1])["spans"]
        for model in (tiny_model, tmp_path / "copy")
    ]
    assert spans[0] == spans[1]
    code, _, err = stillroom("export", "--model", tiny_model, "--out", tmp_path / "copy")
    assert (code, "is not empty" in err) == (2, True)


def test_the_card_of_a_model_that_no_run_made_says_what_can_be_known(stillroom, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "theirs")
    (folder / "stillroom.json").unlink()
    assert stillroom("export", "--model", folder, "--out", tmp_path / "copy")[0] == 0
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "Task: ner. Labels: Disease." in card and "\n0 parameters" not in card
    assert "None" not in card and "How it was made" not in card


def test_a_spec_becomes_a_model_that_can_be_compared(stillroom, tiny_model, note, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        f"kind: finetune\nmodel: {tiny_model}\ndataset: ncbi-disease-slice\nlimit: 24\n"
        "schedule: {steps: 6, batch_tokens: 512, lr: 1.0e-3}\n"
    )
    job_id = json.loads(stillroom("submit", path, "--json")[1])["id"]
    assert stillroom("worker", "--drain")[0] == 0
    job = json.loads(stillroom("job", job_id, "--json")[1])
    assert (job["state"], job["error"], job["progress"]) == ("succeeded", None, 1.0)
    assert 0 <= job["metrics"]["test_f1"] <= 1
    assert (Path(job["artifact"]) / "model.safetensors").is_file()
    assert f"F1 {job['metrics']['test_f1']:.3f}" in stillroom("jobs")[1]
    entry = next(entry for entry in json.loads(stillroom("zoo", "--json")[1]) if entry["id"] == job_id)
    assert (entry["source"], entry["weights_here"], entry["labels"]) == ("run", True, ["Disease"])
    compared = stillroom("compare", "--model", job_id, "--model", tiny_model, "--text-file", note, "--json")
    assert [prediction["model"] for prediction in json.loads(compared[1])["predictions"]] == [job_id, str(tiny_model)]
    assert "has succeeded" in stillroom("retry", job_id)[2]


def test_submit_refuses_what_the_job_would_refuse(home, tiny_model, tmp_path):
    """Nothing waits for training data that turn out to be wrong: they are read before a job is queued."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        (data / f"{split}.conll").write_text("fever\tB-Disease\n\n" * 5 + "cough\tB-Disease\tmore\n")
    path = tmp_path / "spec.yaml"
    path.write_text(f"kind: finetune\nmodel: {tiny_model}\ndataset: {data}\n")
    command = [sys.executable, "-m", "workbench.cli", "submit", path, "--wait", "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"], {field["field"] for field in error["fields"]}) == (
        2,
        "BadSpec",
        {"dataset"},
    )
    assert "train.conll, line 11" in error["message"] and not list((home / "runs").glob("*"))
