"""The command line without any model: documents, exit codes, errors, and what reaches a terminal."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from trainer import datasets, queue, spec
from trainer.errors import Unavailable
from trainer.home import runs_dir
from trainer.prediction import AttributeValue, Cost, Coverage, Prediction, Span
from trainer.run import Run
from workbench import cli
from workbench.cli import findings, inputs, processes, terminal
from workbench.compare import compare
from workbench.launch import logs

ROOT = Path(__file__).parents[2]
SECRET = "Zebulon Quux has ataxia"


def write_spec(folder: Path, **fields) -> Path:
    path = folder / "spec.yaml"
    path.write_text(json.dumps({"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"} | fields))
    return path


def some_spec(**fields) -> spec.JobSpec:
    return spec.parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr"} | fields)


def test_help_is_quick_and_light():
    program = "import sys; from workbench.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    program += "sys.exit(str({'torch', 'streamlit', 'sqlalchemy', 'transformers'} & set(sys.modules)))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"
    assert "compare" in done.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 1, "of processor time, which a busy machine does not stretch as much"


def test_readings_and_states_are_those_of_the_modules():
    from workbench.predict import READINGS

    assert get_args(cli.Reading) == READINGS
    assert set(logs.ALIVE) < set(get_args(queue.Job.model_fields["state"].annotation))


def test_lists_are_one_json_document_each(stillroom, home):
    for words in (["jobs"], ["zoo"], ["datasets"]):
        code, out, err = stillroom(*words, "--json")
        assert (code, err) == (0, "")
        assert isinstance(json.loads(out), list)


def test_zoo_tells_parameters_window_licence_source_and_weights(stillroom, home):
    entries = {entry["id"]: entry for entry in json.loads(stillroom("zoo", "--json")[1])}
    minilm = entries["minilm"]
    assert minilm["params"]["encoder"] == 22_713_216
    assert (minilm["max_tokens"], minilm["licence"], minilm["source"]) == (512, "Apache-2.0", "package")
    assert minilm["weights_here"] is True
    assert entries["biobert-v1.1"]["weights_here"] is False
    code, out, _ = stillroom("zoo")
    assert code == 0
    assert any(line.startswith("minilm ") and "22.7M" in line and "here" in line for line in out.splitlines())


def test_submit_gives_the_id_and_the_same_one_while_the_job_is_queued(stillroom, home, tmp_path):
    path = write_spec(tmp_path)
    code, out, err = stillroom("submit", path, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert list(document) == ["id"]
    assert json.loads(stillroom("submit", path, "--json")[1]) == document
    assert [job["id"] for job in json.loads(stillroom("jobs", "--json")[1])] == [document["id"]]


def test_folders_in_a_spec_are_those_of_the_submitter(stillroom, home, tmp_path, monkeypatch):
    """A worker runs elsewhere; ids stay as they are."""
    data = ROOT / "data" / "ncbi-disease-slice"
    (tmp_path / "mine").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    job_id = json.loads(stillroom("submit", write_spec(tmp_path, dataset="./mine"), "--json")[1])["id"]
    submitted = queue.job(job_id).spec
    assert submitted["model"] == "minilm"
    assert Path(submitted["dataset"]).is_absolute()
    assert Path(submitted["dataset"]).samefile(data)


def test_job_has_the_public_shape(stillroom, home):
    job = queue.submit(some_spec())
    shape = "id kind state progress eta_seconds attempts spec metrics artifact error".split()  # noqa: SIM905
    document = json.loads(stillroom("job", job.id, "--json")[1])
    assert sorted(document) == sorted(shape)
    assert document["state"] == "queued"
    assert job.id in stillroom("job", job.id)[1]


def test_bad_spec_exits_2_and_names_each_field(stillroom, home, tmp_path):
    path = write_spec(tmp_path, seed="seven", schedule={"lr": 5, "epoch": 3}, colour="red")
    code, out, err = stillroom("submit", path)
    assert (code, out) == (2, "")
    for name in ("seed", "schedule.lr", "schedule.epoch", "colour"):
        assert f"error: {name}: " in err
    code, out, err = stillroom("submit", path, "--json")
    error = json.loads(out)["error"]
    assert (code, error["type"]) == (2, "BadSpec")
    assert {item["field"] for item in error["fields"]} == {"seed", "schedule.lr", "schedule.epoch", "colour"}
    assert err, "text on stderr too"
    assert queue.jobs() == []


def test_submit_names_every_reference_that_is_not_here(stillroom, home, tmp_path):
    path = write_spec(tmp_path, model="minilmm", dataset="./nowhere")
    code, out, _ = stillroom("submit", path, "--json")
    fields = {item["field"]: item["problem"] for item in json.loads(out)["error"]["fields"]}
    assert code == 2
    assert set(fields) == {"model", "dataset"}
    assert "Did you mean 'minilm'?" in fields["model"]
    assert queue.jobs() == []


@pytest.mark.parametrize("command", ["job", "logs", "cancel", "retry"])
def test_unknown_job_exits_2(stillroom, home, command):
    code, out, err = stillroom(command, "00000000-1", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (2, "UnknownName")
    assert "There is no job '00000000-1'" in err


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "--model", "nosuch", "--text-file", "{note}"],
        ["compare", "--model", "nosuch", "--model", "minilm", "--text-file", "{note}"],
        ["evaluate", "--model", "nosuch", "--dataset", "bc5cdr"],
        ["evaluate", "--model", "minilm", "--dataset", "nosuch"],
        ["zoo", "build", "nosuch", "--out", "{new}"],
        ["zoo", "fetch", "nosuch"],
        ["datasets", "check", "nosuch"],
        ["datasets", "check", "bc5cdr", "--task", "nosuch"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_unknown_name_exits_2_and_says_what_is_known(stillroom, home, tmp_path, words):
    (tmp_path / "note.txt").write_text(SECRET)
    words = [word.format(note=tmp_path / "note.txt", new=tmp_path / "new") for word in words]
    code, _, err = stillroom(*words)
    assert code == 2
    assert "'nosuch'" in err
    assert "Known: " in err
    assert "Zebulon" not in err


def test_usage_errors_exit_2_also_as_json(stillroom):
    for words in (
        ["jobs", "--wrong"],
        ["predict"],
        ["predict", "--model", "m", "--text-file", "f", "--reading", "all"],
    ):
        code, out, err = stillroom(*words, "--json")
        assert (code, json.loads(out)["error"]["type"]) == (2, "UsageError")
        assert err


def test_a_failed_operation_exits_1(stillroom, home, monkeypatch):
    monkeypatch.setenv("STILLROOM_DB", "sqlite:////nowhere/at/all.db")
    code, out, _ = stillroom("jobs", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (1, "Unavailable")


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"  \r\n", "empty"), (b"%PDF-1.7 " + SECRET.encode(), "PDF"), (SECRET.encode() + b"\xff", "not valid UTF-8")],
)
def test_unreadable_notes_exit_2_and_stay_private(stillroom, home, tmp_path, data, problem):
    (tmp_path / "note.txt").write_bytes(data)
    code, out, err = stillroom("predict", "--model", "minilm-ncbi", "--text-file", tmp_path / "note.txt", "--json")
    assert code == 2
    assert problem in json.loads(out)["error"]["message"]
    assert "Zebulon" not in out + err


def test_a_note_that_is_not_there_exits_2(stillroom, home, tmp_path):
    code, _, err = stillroom("predict", "--model", "minilm-ncbi", "--text-file", tmp_path / "none.txt")
    assert code == 2
    assert "none.txt: No such file" in err


def test_a_note_keeps_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes("\ufeffa\r\nb\rc\u0301 \U0001f600".encode())
    with path.open(encoding="utf-8", newline="") as file:
        assert inputs.read_note(path).text == file.read()


@pytest.mark.parametrize(
    "arms", [["minilm"], ["minilm", "minilm"], ["minilm@windows:x", "minilm"], ["a@backwards", "b"]]
)
def test_arms_that_cannot_be_compared_exit_2(stillroom, home, tmp_path, arms):
    (tmp_path / "note.txt").write_text(SECRET)
    words = [word for arm in arms for word in ("--model", arm)]
    assert stillroom("compare", *words, "--text-file", tmp_path / "note.txt")[0] == 2


def test_datasets_check_counts_the_values_of_attributes(stillroom, home, tmp_path):
    entity = {"label": "problem", "start": 0, "end": 5, "attributes": {"assertion": "absent"}}
    row = json.dumps({"text": "Fever.", "entities": [entity]})
    (tmp_path / "train.spans.jsonl").write_text(f"{row}\n{row}\n")
    _, out, _ = stillroom("datasets", "check", tmp_path / "train.spans.jsonl")
    assert re.search(r"assertion +problem +absent +2", out)


def test_datasets_check_names_the_line(stillroom, home, tmp_path):
    lines = ["Word\tO" if number % 20 else "" for number in range(1, 5001)]
    lines[4216] = "Word\tO\tmore"
    (tmp_path / "train.conll").write_text("\n".join(lines), encoding="utf-8")
    code, out, err = stillroom("datasets", "check", tmp_path / "train.conll", "--task", "ner", "--json")
    report = json.loads(out)
    assert (code, err) == (2, "")
    assert [(problem["line"], problem["message"]) for problem in report["problems"]] == [
        (4217, "3 columns where 2 are needed.")
    ]
    code, out, _ = stillroom("datasets", "check", tmp_path / "train.conll")
    assert code == 2
    assert "train.conll, line 4,217: 3 columns where 2 are needed." in out


KINDS = {  # a split of every kind, and the columns of its table
    "train.conll": ("ner", "Aspirin\tB-Drug\nhelps\tO\n", "sentences tokens entities longest", "1 2 1 2"),
    "train.spans.jsonl": (
        "ner",
        '{"text": "Aspirin helps", "entities": [{"label": "Drug", "start": 0, "end": 7}]}\n',
        "documents tokens entities longest",
        "1 2 1 2",
    ),
    "train.pubtator": (
        "ner",
        "1|t|Aspirin helps\n1\t0\t7\tAspirin\tDrug\n",
        "documents tokens entities longest",
        "1 2 1 2",
    ),
    "train.txt": ("mlm", "Aspirin helps\n", "documents characters longest", "1 13 13"),
    "train.jsonl": ("mlm", '{"text": "Aspirin helps"}\n', "documents characters longest", "1 13 13"),
    "train.csv": ("classification", "text,label\nAspirin helps,a\n", "documents characters longest", "1 13 13"),
    "dev.jsonl": (
        "roles",
        '{"sentences": [{"text": "Aspirin helps", "label": "AIM"}]}\n',
        "documents sentences characters longest",
        "1 1 13 13",
    ),
    "test.csv": (
        "values",
        "text,value\nAspirin helps,3\n",
        "documents characters longest lowest highest mean",
        "1 13 13 3.000 3.000 3.000",
    ),
}


@pytest.mark.parametrize("name", [*KINDS, "train"])
def test_datasets_check_shows_a_table_of_what_every_kind_of_split_holds(name, stillroom, home, tmp_path):
    if name == "train":  # BRAT
        task, _, columns, numbers = KINDS["train.pubtator"]
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / "d.txt").write_text("Aspirin helps")
        (tmp_path / "train" / "d.ann").write_text("T1\tDrug 0 7\tAspirin\n")
    else:
        task, content, columns, numbers = KINDS[name]
        (tmp_path / name).write_text(content)
    _, out, err = stillroom("datasets", "check", tmp_path, "--task", task)
    header, row, *_ = out.splitlines()
    assert (
        header.split() == ["split", *columns.split()]
        and row.split() == [name.partition(".")[0], *numbers.split()]
        and not err
    )


@pytest.mark.parametrize(
    "name",
    [name if name.endswith("-slice") else pytest.param(name, marks=pytest.mark.slow) for name in datasets.cards()],
)
def test_datasets_check_shows_every_data_set_that_ships(name, stillroom, home):
    card = datasets.cards()[name]
    code, out, err = stillroom("datasets", "check", name)  # for the task that a job on it would have
    rows = {row.split()[0]: row.split()[1] for row in out.splitlines() if row.split()[0] in card.splits}
    assert (code, err) == (0, "") and rows == {split: str(part.examples) for split, part in card.splits.items()}


def test_datasets_check_shows_no_table_of_nothing(stillroom, home):
    code, out, _ = stillroom("datasets", "check", "mtsamples-slice", "--task", "ner")
    assert code == 2 and out.startswith("mtsamples-slice: its splits are for the task classification or mlm, not ner.")


def test_zoo_build_does_not_touch_a_folder_that_is_there(stillroom, home, tmp_path):
    (tmp_path / "mine").mkdir()
    code, _, err = stillroom("zoo", "build", "minilm", "--out", tmp_path / "mine")
    assert code == 2
    assert "already exists" in err


def test_cancel_and_retry(stillroom, home):
    job = queue.submit(some_spec())
    assert json.loads(stillroom("cancel", job.id, "--json")[1])["state"] == "cancelled"
    assert json.loads(stillroom("retry", job.id, "--json")[1])["state"] == "queued"
    assert f"{job.id}  cancelled" in stillroom("cancel", job.id)[1]
    fresh = json.loads(stillroom("retry", job.id, "--fresh", "--json")[1])
    assert (fresh["id"], fresh["state"]) == (job.id.replace("-1", "-2"), "queued")


def test_logs_are_those_of_the_newest_attempt(stillroom, home):
    job = queue.submit(some_spec())
    assert stillroom("logs", job.id) == (0, "", "")
    for attempt, text in ((1, "old"), (2, "é new\n"), (10, "newest ü\n")):
        run = Run(runs_dir() / job.id / f"attempt-{attempt}")
        run.folder.mkdir(parents=True)
        run.log.write_text(text, encoding="utf-8")
    assert stillroom("logs", job.id)[1] == "newest ü\n"
    assert json.loads(stillroom("logs", job.id, "--json")[1]) == {"id": job.id, "log": "newest ü\n"}


def test_logs_follow_from_attempt_to_attempt_until_the_job_ends(home, monkeypatch):
    job = queue.submit(some_spec())
    folder = runs_dir() / job.id
    story = iter(
        [
            lambda: _append(folder / "attempt-1", b"one \xc3"),
            lambda: _append(folder / "attempt-1", b"\xa9\n"),
            lambda: _append(folder / "attempt-2", b"two\n"),
            lambda: (_append(folder / "attempt-2", b"end\n"), queue.cancel(job.id)),
        ]
    )
    monkeypatch.setattr(logs.time, "sleep", lambda seconds: next(story)())
    assert "".join(logs.read(job.id, follow=True)) == "one é\ntwo\nend\n"


def _append(folder: Path, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Run(folder).log.open("ab") as file:
        file.write(data)


def test_numbers_that_json_lacks_become_null(capsys):
    terminal.print_json({"loss": float("nan"), "rate": float("inf")})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "rate": None}


def test_note_text_cannot_drive_the_terminal():
    hostile = "a\x1b[31mred\x07\r\u202ereversed\u202c\n[bold]b[/bold] :smile:"
    assert terminal.visible(hostile) == "a [31mred   reversed  [bold]b[/bold] :smile:"


def test_names_are_never_markup(capsys):
    terminal.say("[red]x[/red] :smile:")
    terminal.table(("a",), [["[bold]b[/bold] :smile:"]])
    out = capsys.readouterr().out
    assert "[red]x[/red] :smile:" in out
    assert "[bold]b[/bold] :smile:" in out


def test_a_comparison_shows_which_assertion_each_model_gives(capsys):
    arms = []
    for model, value in (("one", "absent"), ("other", "present")):
        assertion = {"assertion": AttributeValue(value=value, score=0.9)}
        spans = (Span(start=3, end=8, label="problem", score=0.9, attributes=assertion),)
        coverage, cost = Coverage(tokens=3, tokens_read=3, windows=1), Cost(latency_ms=1, tokens_per_second=1)
        arms.append(
            Prediction(model=model, task="ner", spans=spans, coverage=coverage, cost=cost, label_set=("problem",))
        )
    findings.show_comparison("No fever.", compare(arms))
    row = capsys.readouterr().out.splitlines()[1]
    assert " ".join(row.split()) == "3 8 problem (absent) problem (present) fever"


def test_table_cells():
    cells = [terminal.cell(value) for value in (None, "", 0, 1234, 0.81234, "x")]
    assert cells == ["–", "–", "0", "1234", "0.812", "x"]
    assert [terminal._duration(seconds) for seconds in (None, 0, 75.2, 3725)] == [None, "0:00", "1:15", "1:02:05"]


def test_up_takes_the_next_free_port_unless_a_port_is_named():
    with socket.socket() as taken:
        taken.bind((processes.ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"Port {port} is in use"):
            processes._choose_port(port)
        assert not processes._free(port)
    assert processes._choose_port(None) >= processes.FIRST_PORT


@pytest.mark.parametrize(
    ("listed", "visible", "devices"),
    [
        ("GPU 0: NVIDIA H100 (UUID: GPU-1)\nGPU 1: NVIDIA H100 (UUID: GPU-2)\n", None, ["cuda:0", "cuda:1"]),
        ("GPU 0: A\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: B\n", "1", ["cuda:0"]),
        ("GPU 0: A\n", "", []),
        ("GPU 0: A\n", "-1", []),
        ("No devices were found\n", None, []),
    ],
)
def test_cuda_devices_are_counted_without_torch(tmp_path, monkeypatch, listed, visible, devices):
    (tmp_path / "list").write_text(listed)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nexec cat {tmp_path / 'list'}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processes.cuda_devices() == devices


@pytest.mark.parametrize(
    ("cores", "workers", "lab", "each"), [(1, 1, 1, 1), (2, 1, 1, 1), (16, 1, 4, 12), (16, 2, 4, 6), (8, 0, 8, 1)]
)
def test_lab_and_workers_share_the_cores(home, monkeypatch, cores, workers, lab, each):
    monkeypatch.setattr(processes, "cores", lambda: cores)
    for name in ("STILLROOM_LAB_THREADS", "STILLROOM_WORKER_THREADS"):
        monkeypatch.delenv(name)  # a person's wish counts, and the tests have one
    environment = processes.child_environment(workers=workers)
    assert environment["STILLROOM_LAB_THREADS"] == str(lab)
    assert environment["STILLROOM_WORKER_THREADS"] == str(each) or not workers
    assert environment["STILLROOM_HOME"] == str(home)
