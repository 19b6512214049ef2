"""The Jobs page: every state, one job in detail, its actions, and names that look like markup."""

import os

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from trainer import queue, store
from trainer.engines import Process
from trainer.queue import Progress
from trainer.run import commit_folder
from trainer.spec import JobSpec, parse

HOSTILE = "<img src=x onerror=alert(1)>:red[x]$\\alpha$**b**"
PAGE = "from workbench.pages import jobs; jobs.render()"


def spec(**fields) -> JobSpec:
    return parse({"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"} | fields)


@pytest.fixture
def worker(home) -> queue.Worker:
    """A worker that lives: this very process."""
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
    kinds = ("title", "subheader", "markdown", "caption", "text", "code", "error")
    return "\n".join(str(element.value) for kind in kinds for element in page.get(kind))


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_no_jobs_yet_points_to_train(home):
    page = opened()
    assert "No jobs yet" in shown(page)
    assert [link.label for link in page.get("page_link")] == ["New job", "Describe the first one"]


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
    said = shown(page)
    for word in ("Running", "Queued", "Failed", "Succeeded", "Cancelled", "Number 1 in line", "line 4,217", "0.819"):
        assert word in said
    assert page.get("progress")[0].value == 35  # 640 of 1,800, in whole percent
    assert "No worker" not in said
    links = [link.label for link in page.get("page_link")]
    assert {running.id, failed.id, succeeded.id} <= set(links)


def test_a_queue_without_a_worker_says_how_to_start_one(home):
    queue.submit(spec())
    assert "stillroom worker" in shown(opened())
    assert "stillroom worker" in shown(opened(queue.jobs()[0].id))


def test_a_long_list_has_pages(home):
    for seed in range(12):
        queue.submit(spec(seed=seed))
    assert shown(opened()).count("Number ") == 10


def test_a_running_job_shows_its_figures_and_curves(start):
    lease = start()
    rows = steps(40, evaluations={20: 0.61, 40: 0.58})
    queue.renew(store.open_store(), lease, Progress(step=40, steps=120, rate=2.0, rows=rows))
    page = opened(lease.id)
    assert metrics(page) == {"Dev F1, best": "0.610", "Dev F1, latest": "0.580", "Loss, latest": "0.050"}
    assert [metric.delta for metric in page.metric] == ["step 20", "step 40", "step 40"]
    assert len(page.get("plotly_chart")) == 2
    assert page.get("progress")[0].value == 33
    assert "about 40 s left" in page.get("progress")[0].proto.text


def test_what_the_page_shows_is_the_stored_spec(start):
    lease = start(schedule={"steps": 7, "lr": 0.003}, seed=9)
    codes = [code.value for code in opened(lease.id).code]
    assert queue.job(lease.id).spec in [yaml.safe_load(text) for text in codes]


def test_a_reload_changes_nothing(start):
    lease = start()
    queue.renew(store.open_store(), lease, Progress(step=5, steps=10, rows=steps(5)))
    before = queue.job(lease.id)
    assert metrics(opened(lease.id)) == metrics(opened(lease.id)) != {}
    assert queue.job(lease.id) == before


def test_a_running_job_whose_worker_died_says_that_it_waits(home):
    dead = Process.of(os.getpid())._replace(start="0")
    lost = queue.enlist(store.open_store(), device="cpu", process=dead)
    queue.submit(spec())
    lease = queue.claim(store.open_store(), lost)
    queue.renew(store.open_store(), lease, Progress(step=5, steps=10, rate=1.0))
    page = opened(lease.id)
    assert "waiting for a worker" in page.get("progress")[0].proto.text
    assert "left" not in page.get("progress")[0].proto.text
    assert "stillroom worker" in shown(page)


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
    checkpoint = store.runs_dir() / lease.id / "attempt-1" / "checkpoints" / "step-200"
    commit_folder(checkpoint, lambda draft: (draft / "state.json").write_text("{}"))
    queue.finish(
        store.open_store(), lease, state="failed", error={"type": "X", "message": "It broke.", "next_step": ""}
    )
    page = opened(lease.id)
    assert labels(page) == ["Go on from step 200", "Start afresh"]
    page.button[0].click().run()
    assert queue.job(lease.id).state == "queued"
    assert "Queued" in shown(page)


def test_start_afresh_opens_the_new_job(start):
    lease = start()
    checkpoint = store.runs_dir() / lease.id / "attempt-1" / "checkpoints" / "step-200"
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
    assert labels(page) == ["Try again"]
    assert "Too large." in shown(page) and "batch_tokens: 512" in shown(page)


def test_a_finished_job_offers_its_model(start):
    lease = start()
    folder = store.runs_dir() / lease.id / "attempt-1" / "artifacts" / "model"
    queue.finish(
        store.open_store(), lease, state="succeeded", artifact=str(folder), progress=Progress(metrics={"test_f1": 0.5})
    )
    page = opened(lease.id)
    assert labels(page) == ["Compare this model"]
    assert str(folder) in shown(page)
    assert metrics(page)["Test F1"] == "0.500"


def test_the_log_is_shown_from_its_end(start):
    lease = start()
    folder = store.runs_dir() / lease.id / "attempt-1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(10_000)))
    log = next(code.value for code in opened(lease.id).code if code.value.startswith("line"))
    assert log.endswith("line 9999") and len(log) <= 32_000
    assert all(line.startswith("line ") for line in log.splitlines())


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
        interpreted = [element for kind in ("markdown", "caption", "title", "subheader") for element in page.get(kind)]
        interpreted = "\n".join([*(str(element.value) for element in interpreted), *labels(page)])
        for part in ("<img", ":red[x", "alpha", "!["):
            assert part not in interpreted
