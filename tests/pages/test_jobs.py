"""The Jobs page: every state, one job in detail, its actions, and names that look like markup."""

import json
import os

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from trainer import queue
from trainer.files import commit_folder
from trainer.home import runs_dir
from trainer.queue import Progress, store
from trainer.queue.engines import Process
from trainer.run import Result, Run
from trainer.spec import JobSpec, parse
from trainer.training import estimate
from workbench.cli import terminal
from workbench.launch import wording
from workbench.widgets.messages import plain

HOSTILE = "<img src=x onerror=alert(1)>:red[x]$\\alpha$**b**"
PAGE = "from workbench.pages import jobs; jobs.render()"


def spec(**fields) -> JobSpec:
    usual = {"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"} | fields
    return parse({name: value for name, value in usual.items() if value is not None})


@pytest.fixture
def worker(home) -> queue.Worker:
    """A live worker: this process."""
    return queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))


@pytest.fixture
def start(worker):
    """Submit a spec and claim it, as the worker would."""

    def begin(**fields) -> queue.Lease:
        job = queue.submit(spec(**fields))
        lease = queue.claim(store.open_store(), worker)
        assert lease.id == job.id
        return lease

    return begin


def steps(last: int, *, evaluations: dict[int, float] | None = None) -> dict:
    rows = {(step, "loss"): 2.0 / step for step in range(1, last + 1)}
    return rows | {(step, "dev_f1"): value for step, value in (evaluations or {}).items()}


def opened(job_id: str | None = None) -> AppTest:
    page = AppTest.from_string(PAGE, default_timeout=30)
    if job_id:
        page.query_params["job"] = job_id
    page.run()
    assert not page.exception
    return page


def shown(page: AppTest) -> str:
    """Everything the page says in words."""
    kinds = ("title", "header", "markdown", "caption", "text", "code", "error")
    return "\n".join(str(element.value) for kind in kinds for element in page.get(kind))


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_no_jobs_yet_points_to_train(home):
    page = opened()
    assert "No jobs yet" in shown(page)
    assert [link.label for link in page.get("page_link")] == ["New job", "Set up the first job"]


def test_the_list_shows_each_state_in_words(start):
    running = start(seed=1)
    queue.renew(store.open_store(), running, Progress(step=640, steps=1800, rate=3.0))
    failed = start(seed=2)
    error = {"type": "BadData", "message": "train.conll, line 4,217: three columns.", "next_step": "Write two."}
    queue.finish(store.open_store(), failed, state="failed", error=error)
    succeeded = start(seed=3)
    queue.finish(store.open_store(), succeeded, state="succeeded", progress=Progress(metrics={"test_f1": 0.8193}))
    queue.submit(spec(seed=4))
    queue.cancel(queue.submit(spec(seed=5)).id)
    page = opened()
    text = shown(page)
    for word in (
        "Running",
        "Queued",
        "Failed",
        "Succeeded",
        "Cancelled",
        "Position 1 in the queue",
        "line 4,217",
        "0.819",
    ):
        assert word in text
    assert page.get("progress")[0].value == 35  # 640 of 1,800, in whole percent
    assert "No worker" not in text
    links = [link.label for link in page.get("page_link")]
    assert {running.id, failed.id, succeeded.id} <= set(links)


def test_a_job_of_a_chain_says_what_it_waits_for_and_why_it_was_stopped(start):
    first = start()
    waiting = queue.submit(spec(model=first.id))
    for page in (opened(), opened(waiting.id)):
        assert f"Waiting for {first.id}" in shown(page) and "Position" not in shown(page)
    queue.finish(store.open_store(), first, state="failed")
    for page in (opened(), opened(waiting.id)):
        assert f"Job {first.id} (finetune on ncbi-disease-slice), which this one needs, has failed." in shown(page)


def test_a_queue_without_a_worker_says_how_to_start_one(home):
    queue.submit(spec())
    assert "stillroom worker" in shown(opened())
    assert "stillroom worker" in shown(opened(queue.jobs()[0].id))


def test_a_long_list_has_pages(home):
    for seed in range(12):
        queue.submit(spec(seed=seed))
    assert shown(opened()).count("Position ") == 10


def test_a_running_job_shows_its_figures_and_curves(start):
    lease = start()
    rows = steps(40, evaluations={20: 0.61, 40: 0.58})
    queue.renew(store.open_store(), lease, Progress(step=40, steps=120, rate=2.0, rows=rows))
    page = opened(lease.id)
    assert metrics(page) == {"Dev F1, best": "0.610", "Dev F1, latest": "0.580", "Loss, latest": "0.050"}
    assert [metric.delta for metric in page.metric] == ["step 20", "step 40", "step 40"]
    assert len(page.get("plotly_chart")) == 2
    assert page.get("progress")[0].value == 33
    assert "about 40 seconds left" in page.get("progress")[0].proto.text


def test_what_the_page_shows_is_the_stored_spec(start):
    lease = start(schedule={"steps": 7, "lr": 0.003}, seed=9)
    [text] = [code.value for code in opened(lease.id).code if code.value.startswith("kind:")]
    stored, shown_spec = queue.job(lease.id).spec, yaml.safe_load(text)
    assert JobSpec.model_validate(shown_spec).model_dump(mode="json") == stored
    assert (
        "null" not in text
        and shown_spec["seed"] == 9
        and shown_spec["schedule"]["warmup"] == stored["schedule"]["warmup"]
    )


def test_a_reload_changes_nothing(start):
    lease = start()
    queue.renew(store.open_store(), lease, Progress(step=5, steps=10, rows=steps(5)))
    before = queue.job(lease.id)
    assert metrics(opened(lease.id)) == metrics(opened(lease.id)) != {}
    assert queue.job(lease.id) == before


def test_a_running_job_whose_worker_died_is_shown_as_waiting(home):
    dead = Process.of(os.getpid())._replace(start="0")
    lost = queue.enlist(store.open_store(), device="cpu", process=dead)
    queue.submit(spec())
    lease = queue.claim(store.open_store(), lost)
    queue.renew(store.open_store(), lease, Progress(step=5, steps=10, rate=1.0))
    page = opened(lease.id)
    assert "waiting for a worker" in page.get("progress")[0].proto.text
    assert "left" not in page.get("progress")[0].proto.text
    assert "stillroom worker" in shown(page)


def test_page_badge_and_shell_agree_on_whether_a_worker_is_at_a_job(home, capsys):
    started = store.open_store()
    for process, word in (
        (Process.of(os.getpid()), "running"),
        (Process.of(os.getpid())._replace(start="0"), "interrupted"),
    ):
        worker = queue.enlist(started, device="cpu", process=process)
        queue.submit(spec().model_copy(update={"seed": len(queue.jobs())}))
        lease = queue.claim(started, worker)
        queue.renew(started, lease, Progress(step=5, steps=10, rate=1.0))
        job = queue.job(lease.id)
        assert job.held == (word == "running") == any(each.job_id == job.id for each in queue.workers())
        assert wording.state(job) == word and (job.eta_seconds is not None) == job.held
        assert f"[:material/{'progress_activity' if job.held else 'pause_circle'}: {word.capitalize()}]" in badges(
            job.id
        )
        terminal.show_job(job)
        terminal.show_jobs(queue.jobs())
        assert word in capsys.readouterr().out
        assert job.to_json()["state"] == "running", "the contract of --json knows no other word"
    assert "1 running · 1 interrupted · 0 queued" in shown(opened())


def badges(job_id: str) -> str:
    return " ".join(each.value for each in opened(job_id).markdown)


def test_cancel_asks_first_and_then_stops_the_job(start):
    lease = start()
    page = opened(lease.id)
    assert not queue.job(lease.id).cancel_requested
    next(button for button in page.button if button.label == "Cancel this job").click().run()
    assert queue.job(lease.id).cancel_requested
    assert "Stopping" in shown(page)
    assert "Cancel this job" not in labels(page)


def test_retry_goes_on_from_the_checkpoint_that_is_there(start):
    lease = start()
    checkpoint = runs_dir() / lease.id / "attempt-1" / "checkpoints" / "step-200"
    commit_folder(checkpoint, lambda draft: (draft / "state.json").write_text("{}"))
    queue.finish(
        store.open_store(), lease, state="failed", error={"type": "X", "message": "It broke.", "next_step": ""}
    )
    page = opened(lease.id)
    assert labels(page) == ["Resume from step 200", "Start over"]
    page.button[0].click().run()
    assert queue.job(lease.id).state == "queued"
    assert "Queued" in shown(page)


def test_start_afresh_opens_the_new_job(start):
    lease = start()
    checkpoint = runs_dir() / lease.id / "attempt-1" / "checkpoints" / "step-200"
    commit_folder(checkpoint, lambda draft: (draft / "state.json").write_text("{}"))
    queue.finish(store.open_store(), lease, state="cancelled")
    page = opened(lease.id)
    page.button[1].click().run()
    assert not page.exception
    new = queue.jobs()[0]
    assert new.id != lease.id and new.state == "queued"
    assert page.query_params["job"] == new.id
    assert page.title[0].value == f"Job {new.id}".replace("-", "\\-")
    assert queue.job(lease.id).state == "cancelled"


def test_a_failed_job_without_a_checkpoint_can_be_tried_again(start):
    lease = start()
    error = {"type": "OutOfMemory", "message": "Too large.", "next_step": "Submit it with batch_tokens: 512."}
    queue.finish(store.open_store(), lease, state="failed", error=error)
    page = opened(lease.id)
    assert labels(page) == ["Retry"]
    assert "Too large." in shown(page) and "batch_tokens: 512" in shown(page)


def test_a_job_whose_data_have_changed_can_start_afresh(start):
    lease = start()
    error = {"type": "CorruptFile", "message": "The data set has changed.", "next_step": "Start anew."}
    queue.finish(store.open_store(), lease, state="failed", error=error)
    page = opened(lease.id)
    assert labels(page) == ["Retry", "Start over"]
    page.button[1].click().run()
    assert queue.jobs()[0].id != lease.id and queue.job(lease.id).state == "failed"


def test_a_finished_job_offers_its_model(start):
    lease = start()
    folder = runs_dir() / lease.id / "attempt-1" / "artifacts" / "model"
    queue.finish(
        store.open_store(), lease, state="succeeded", artifact=str(folder), progress=Progress(metrics={"test_f1": 0.5})
    )
    page = opened(lease.id)
    assert labels(page) == ["Compare this model"]
    assert str(folder) in shown(page)
    assert metrics(page)["Test F1"] == "0.500"


def test_the_log_is_shown_from_its_end(start):
    lease = start()
    folder = runs_dir() / lease.id / "attempt-1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(10_000)))
    log = next(code.value for code in opened(lease.id).code if code.value.startswith("line"))
    assert log.endswith("line 9999") and len(log) <= 32_000
    assert all(line.startswith("line ") for line in log.splitlines())


DISTIL = {
    "kind": "distill",
    "model": None,
    "teacher": "minilm-bc5cdr",
    "student": {"layers": 3},
    "recipe": "task_kd",
    "dataset": "bc5cdr-slice",
}
SCORES = {"test_f1": 0.8, "teacher_test_f1": 0.82, "retention": 0.8 / 0.82}
SCORES |= {"test_f1.Chemical": 0.88, "teacher_test_f1.Chemical": 0.87}
SCORES |= {"test_f1.Disease": 0.7, "teacher_test_f1.Disease": 0.75}


def taught(lease, *, last: int = 40, teacher: float = 0.81) -> dict:
    rows = {(0, "teacher_dev_f1"): teacher}
    for step in range(1, last + 1):
        parts = {"loss.soft_targets": 2 / step, "loss.hidden_cosine": 1 / step}
        rows |= {(step, name): value for name, value in parts.items()} | {(step, "loss"): 3 / step}
    rows |= {(20, "dev_f1"): 0.7, (40, "dev_f1"): 0.79}
    queue.renew(store.open_store(), lease, Progress(step=last, steps=last, rows=rows))
    return rows


def ended(lease, scores: dict, **report) -> None:
    run = Run(runs_dir() / lease.id / "attempt-1")
    run.folder.mkdir(parents=True)
    run.finish(Result(state="succeeded", metrics=scores, report={"n": 100, "intervals": {}, "cost": {}} | report))
    queue.finish(store.open_store(), lease, state="succeeded", progress=Progress(metrics=scores))


def lines(page: AppTest, chart: int) -> dict[str, dict]:
    """The traces of a chart by name, as the browser gets them."""
    figure = json.loads(page.get("plotly_chart")[chart].proto.spec)
    return {trace["name"]: trace for trace in figure["data"]}


def test_each_term_of_a_distillation_is_a_curve_and_the_teacher_a_line(start):
    lease = start(**DISTIL)
    taught(lease)
    page = opened(lease.id)
    assert list(lines(page, 0)) == ["sum", "Soft targets", "Hidden states, cosine"]
    scores = lines(page, 1)
    assert set(scores) == {"student", "teacher 0.810"}
    assert scores["teacher 0.810"]["y"] == [0.81, 0.81] and scores["teacher 0.810"]["x"] == [0, 40]


def test_what_a_student_kept_and_lost_is_shown(start):
    lease = start(**DISTIL)
    taught(lease)
    ended(lease, SCORES, intervals={"f1": [0.779, 0.8200]})
    page = opened(lease.id)
    assert metrics(page)["Retention"] == "97.6 %" and metrics(page)["Teacher's test F1"] == "0.820"
    assert "95 % interval 95.0 to 100.0 %, from the student's score alone" in shown(page)
    table = page.dataframe[0].value
    assert list(table["Label"]) == ["Disease", "Chemical"]  # what was lost most first
    assert [round(value, 3) for value in table["Difference"]] == [-0.05, 0.01]


def test_an_average_stands_beside_its_models(start):
    start(seed=2)  # a run that has curves is none to lay over an average
    lease = start(kind="average", model=["minilm-bc5cdr", "minilm-ncbi"])
    members = [{"model": "a-1", "dev_f1": 0.8, "test_f1": 0.81}, {"model": "./b_c", "dev_f1": None, "test_f1": None}]
    ended(lease, {"dev_f1": 0.825, "test_f1": 0.8304}, members=members)
    page = opened(lease.id)
    assert "minilm-bc5cdr and minilm-ncbi averaged, scored on ncbi-disease-slice" in shown(page)
    table = page.dataframe[0].value
    assert list(table["Model"]) == ["a-1", "./b_c", "average"]
    assert list(table["Test F1"].fillna(-1)) == [0.81, -1, 0.8304]
    assert "Compare with other runs" not in shown(page)


def test_an_estimate_is_held_against_the_truth(start):
    lease = start()
    fields = {"device": "cpu", "threads": 2, "params": 10, "trained": 10, "teacher_params": None, "steps": 44}
    fields |= {"seconds_per_step": 0.5, "tokens_per_step": 900, "evaluations": 3, "evaluation_s": 10, "teacher_s": 0}
    fields |= {"preparing_s": 5, "peak_memory_bytes": 1_200_000_000, "cut": 0, "split": 0}
    estimate.store(estimate.Estimate.model_validate(fields), parse(queue.job(lease.id).spec).digest)
    speeds = {(step, "tokens_per_second"): 900.0 if step % 2 else 1800.0 for step in range(1, 41)}
    queue.renew(store.open_store(), lease, Progress(step=40, steps=44, rows=steps(40) | speeds))
    assert "Estimated and actual cost" not in shown(opened(lease.id))
    ended(lease, {"test_f1": 0.5}, cost={"peak_memory_bytes": 900_000_000})
    table = opened(lease.id).dataframe[0].value.set_index("")
    assert list(table["Estimated"]) == ["0.50 s", "44", "1 min", "1.2 GB"]
    assert list(table["Actual"][["Time per step", "Steps", "Peak memory"]]) == ["0.75 s", "40", "900 MB while scoring"]
    assert table["Actual"]["Whole run"].endswith(" s")


def test_a_job_without_a_teacher_does_not_mention_one(start):
    lease = start()
    queue.renew(store.open_store(), lease, Progress(step=40, steps=40, rows=steps(40, evaluations={40: 0.5})))
    ended(lease, {"test_f1": 0.5, "test_f1.Disease": 0.5})
    page = opened(lease.id)
    assert "Retention" not in metrics(page) and "Student and teacher" not in shown(page)
    assert not page.dataframe


def test_runs_are_laid_over_each_other_with_only_what_differs(start):
    first, second = start(seed=1), start(seed=2, schedule={"lr": 0.003})
    for lease in (first, second):
        queue.renew(store.open_store(), lease, Progress(step=40, steps=40, rows=steps(40, evaluations={40: 0.5})))
    ended(first, {"test_f1": 0.5})
    page = opened(first.id)
    assert page.multiselect[0].options == [f"{second.id} · minilm fine-tuned on ncbi-disease-slice, seed 2"]
    page.multiselect[0].set_value([second.id]).run()
    assert not page.exception
    assert page.query_params["with"] == second.id
    assert set(lines(page, 2)) == set(lines(page, 3)) == {first.id, second.id}
    table = page.dataframe[0].value.set_index("field")
    assert set(table.index) == {"seed", "schedule.lr", "test score"}
    assert dict(table.loc["schedule.lr"]) == {first.id: "0.0001", second.id: "0.003"}


def test_a_link_opens_the_same_runs(start):
    first, second = start(seed=1), start(seed=2)
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.query_params["job"], page.query_params["with"] = first.id, [second.id, "00000000-9"]
    page.run()
    assert not page.exception
    assert page.multiselect[0].value == [second.id]
    assert "no values yet" in shown(page)


def test_the_list_leads_to_runs_over_each_other(start):
    leases = [start(seed=1), start(seed=2), start(**DISTIL)]
    for lease in leases:
        queue.renew(store.open_store(), lease, Progress(step=5, steps=10, rows=steps(5)))
    page = opened()
    page.multiselect[0].set_value([leases[0].id, leases[2].id]).run()
    assert not page.exception
    link = next(link for link in page.get("page_link") if link.label == "Show")
    assert link.proto.query_string == f"job={leases[0].id}&with={leases[2].id}"


@pytest.mark.parametrize("fields", [{}, DISTIL, {"kind": "evaluate"}], ids=["finetune", "distill", "evaluate"])
def test_every_kind_of_job_can_be_copied_to_a_new_one(start, fields):
    lease = start(**fields)
    link = next(link for link in opened(lease.id).get("page_link") if link.label == "New job from this spec")
    assert link.proto.query_string == f"from={lease.id}"


def test_an_unknown_job_is_an_error_that_runs_nothing(home):
    page = opened(HOSTILE)
    assert page.error
    assert HOSTILE not in page.error[0].value  # escaped


def test_names_that_look_like_markup_are_shown_as_text(start):
    lease = start(model=HOSTILE, dataset="![](http://x.invalid/a.png)")
    error = {"type": "UnknownName", "message": f"There is no model {HOSTILE}.", "next_step": f"Not {HOSTILE}."}
    queue.finish(store.open_store(), lease, state="failed", error=error)
    for page in (opened(), opened(lease.id)):
        plain = "\n".join(text.value for text in page.text)
        assert HOSTILE in plain and f"There is no model {HOSTILE}." in plain
        interpreted = [element for kind in ("markdown", "caption", "title", "header") for element in page.get(kind)]
        interpreted = "\n".join([*(str(element.value) for element in interpreted), *labels(page)])
        for part in ("<img", ":red[x", "alpha", "!["):
            assert part not in interpreted


def test_an_evaluation_says_what_its_scores_rest_on(start):
    lease = start(kind="evaluate", model="minilm-ncbi")
    note = "In both train and test: 3 sentences. This makes scores on test higher."
    ended(lease, {"f1": 0.8}, notes=[note])
    assert plain(note) in shown(opened(lease.id))
