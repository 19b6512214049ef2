"""Each arrow between the states of a job, alone, in odd orders and against an in-memory model.

STILLROOM_TEST_DB runs the same tests on another database, for example postgresql+psycopg://postgres@localhost/test.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import scripted_run
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import delete, select, update

from trainer import queue
from trainer.errors import LeaseLost, Refused, UnknownName
from trainer.home import runs_dir
from trainer.queue import lease as leases
from trainer.queue import metrics
from trainer.queue import store as stores
from trainer.queue.engines import Process
from trainer.spec import parse

HERE = Process.of(os.getpid())
DEAD = HERE._replace(start="1")  # an earlier process with this id
ELSEWHERE = HERE._replace(host="another machine")


def spec(seed=0):
    return parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "seed": seed})


def clear(store):
    for table in reversed(stores.metadata.sorted_tables):
        stores.write(store, lambda connection, table=table: connection.execute(delete(table)))


@pytest.fixture
def store(home, monkeypatch):
    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", os.environ.get("STILLROOM_TEST_DB") or url)
        clear(store := stores.open_store())
        yield store
        store.dispose()


def worker(store, process=HERE):
    return queue.enlist(store, device="cpu", process=process)


@pytest.fixture
def running(store):
    """(job, lease) of a job that this process holds."""
    job = queue.submit(spec())
    return job, queue.claim(store, worker(store))


def row(store, job_id):
    query = select(stores.job).where(stores.job.c.id == job_id)
    return stores.read(store, lambda connection: connection.execute(query).one())


def set_row(store, job_id, **values):
    changed = update(stores.job).where(stores.job.c.id == job_id).values(values)
    stores.write(store, lambda connection: connection.execute(changed))


# submit


def test_submit_makes_a_job_with_every_default_shown(store):
    job = queue.submit(spec())
    assert job.id == f"{spec().digest[:8]}-1"
    assert (job.state, job.place, job.progress, job.attempts) == ("queued", 1, 0.0, 0)
    assert parse(job.spec) == spec() and job.spec["schedule"]["clip"] == 1.0
    assert queue.job(job.id) == job and queue.jobs() == [job]


def test_submitting_twice_is_submitting_once_until_it_has_ended(store):
    first = queue.submit(spec())
    assert queue.submit(spec()).id == first.id
    lease = queue.claim(store, worker(store))
    assert queue.submit(spec()).id == first.id
    queue.finish(store, lease, state="succeeded")
    assert queue.submit(spec()).id == f"{spec().digest[:8]}-2"
    assert queue.submit(spec(seed=1)).id != first.id


def test_thirty_two_submits_at_once_are_one_job(store):
    barrier = threading.Barrier(32)

    def submit(_):
        barrier.wait()
        return queue.submit(spec(), store=store).id

    with ThreadPoolExecutor(32) as pool:
        ids = set(pool.map(submit, range(32)))
    assert len(ids) == len(queue.jobs()) == 1


def test_a_job_that_is_being_cancelled_does_not_stand_in_the_way(store, running):
    job, lease = running
    queue.cancel(job.id)
    again = queue.submit(spec())
    assert again.id != job.id and again.state == "queued"
    queue.hand_back(store, lease)
    assert queue.job(job.id).state == "cancelled"


def test_a_run_folder_that_outlived_its_database_is_not_reused(store):
    (runs_dir() / f"{spec().digest[:8]}-1").mkdir(parents=True)
    assert queue.submit(spec()).id == f"{spec().digest[:8]}-2"


def test_priority_first_then_turn(store):
    ids = [queue.submit(spec(seed), priority=priority).id for seed, priority in enumerate((0, 5, 0, 5))]
    order = [ids[1], ids[3], ids[0], ids[2]]
    assert [queue.job(job_id).place for job_id in order] == [1, 2, 3, 4]
    assert [queue.claim(store, worker(store)).id for _ in order] == order
    assert queue.claim(store, worker(store)) is None
    assert [job.id for job in queue.jobs()] == ids[::-1]
    assert [job.id for job in queue.jobs(limit=2)] == ids[:1:-1]


def test_an_unknown_job_is_named_with_its_neighbours(store):
    job = queue.submit(spec())
    for arrow in (queue.job, queue.cancel, queue.retry):
        with pytest.raises(UnknownName, match=f"Did you mean '{job.id}'"):
            arrow(job.id + "1")


# claim, renew, finish


def test_claim_counts_the_attempt_and_fences(store, running):
    job, lease = running
    assert (lease.id, lease.token, lease.attempts, lease.strikes) == (job.id, 1, 1, 1)
    job = queue.job(job.id)
    assert (job.state, job.attempts, job.place) == ("running", 1, None) and job.started_at


def test_renew_writes_progress_and_metric_rows_together(store, running):
    job, lease = running
    rows = {(5, "loss"): 0.5, (5, "lr"): float("nan")}
    progress = queue.Progress(step=5, steps=20, rate=2.5, checkpoint=4, message="on", metrics={"loss": 0.5}, rows=rows)
    assert queue.renew(store, lease, progress, child=HERE) == "go"
    job = queue.job(job.id)
    assert (job.step, job.steps, job.progress, job.eta_seconds, job.message) == (5, 20, 0.25, 6.0, "on")
    assert job.metrics == {"loss": 0.5}
    assert metrics.history(job.id)[1] == {"step": 5, "name": "lr", "value": None}
    assert Process.parse(row(store, job.id).child_process) == HERE
    assert queue.renew(store, lease) == "go", "what is not said stays"
    assert queue.job(job.id).step == 5 and row(store, job.id).beat == 2


def test_finish_writes_state_error_artifact_and_metrics_at_once(store, running):
    job, lease = running
    progress = queue.Progress(step=9, steps=9, metrics={"test_f1": 0.8}, rows={(9, "loss"): 0.1})
    queue.finish(store, lease, state="succeeded", artifact="/somewhere", progress=progress)
    job = queue.job(job.id)
    assert (job.state, job.artifact, job.metrics, job.progress) == ("succeeded", "/somewhere", {"test_f1": 0.8}, 1.0)
    assert metrics.history(job.id) and job.ended_at and job.eta_seconds is None
    with pytest.raises(LeaseLost):
        queue.finish(store, lease, state="failed")
    assert queue.job(job.id) == job


def late_worker(store):
    """(job id, lease of a worker that woke up late, lease of the one that took over)."""
    job = queue.submit(spec())
    late = queue.claim(store, worker(store))
    queue.reclaim(store, queue.Watch(), lease_s=0)
    return job.id, late, queue.claim(store, worker(store))


def try_everything(store, lease):
    rows = queue.Progress(step=1, rows={(1, "loss"): 9.0})
    arrows = (
        lambda: queue.renew(store, lease, rows),
        lambda: queue.finish(store, lease, state="failed", progress=rows),
        lambda: queue.hand_back(store, lease, rows),
        lambda: queue.postpone(store, lease, rows, wait_s=9),
    )
    for arrow in arrows:
        with pytest.raises(LeaseLost):
            arrow()


def test_a_late_worker_changes_nothing(store):
    job_id, late, current = late_worker(store)
    before = row(store, job_id)
    try_everything(store, late)
    assert row(store, job_id) == before and metrics.history(job_id) == []
    queue.finish(store, current, state="succeeded")
    before = row(store, job_id)
    try_everything(store, late)
    assert row(store, job_id) == before


def test_nothing_but_the_token_stops_a_late_worker(store):
    """With the token of the present lease it would win, so the test above tests the fence."""
    job_id, late, current = late_worker(store)
    queue.finish(store, replace(late, token=current.token), state="failed")
    assert queue.job(job_id).state == "failed"


# hand back, postpone, cancel, retry


def test_hand_back_keeps_its_turn_and_is_not_counted(store, running):
    job, lease = running
    queue.submit(spec(seed=1))
    queue.hand_back(store, lease, queue.Progress(step=3, checkpoint=3))
    job = queue.job(job.id)
    assert (job.state, job.attempts, job.place, job.step) == ("queued", 0, 1, 3)
    assert row(store, job.id).strikes == 0
    assert queue.claim(store, worker(store)).token == 2


def test_postpone_waits_and_says_why(store, running):
    job, lease = running
    queue.postpone(store, lease, wait_s=600, message="the disk is full")
    job = queue.job(job.id)
    assert (job.state, job.message, job.attempts) == ("queued", "the disk is full", 1)
    assert queue.waiting(store) == (0, 1) and queue.claim(store, worker(store)) is None
    set_row(store, job.id, not_before=time.time() - 1)
    assert queue.waiting(store) == (1, 1) and queue.claim(store, worker(store)).id == job.id


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_jumps_holds_nothing_for_longer_than_the_longest_backoff(store, running, monkeypatch, years):
    job, lease = running
    queue.postpone(store, lease, wait_s=600)
    jumped = time.time() + years * 31_556_952
    monkeypatch.setattr(leases.time, "time", lambda: jumped)
    assert queue.claim(store, worker(store)).id == job.id
    assert queue.reclaim(store, queue.Watch()) == []


def test_backoff_doubles_up_to_its_maximum():
    for strikes in range(1, 40):
        longest = min(leases.BACKOFF_S * 2 ** (strikes - 1), leases.MAX_BACKOFF_S)
        assert 0.8 * longest <= queue.backoff_s(strikes) <= longest


def test_cancel_in_each_state(store):
    queued = queue.submit(spec())
    assert queue.cancel(queued.id).state == "cancelled"
    job = queue.submit(spec(seed=1))
    lease = queue.claim(store, worker(store))
    asked = queue.cancel(job.id)
    assert (asked.state, asked.cancel_requested, asked.ended_at) == ("running", True, None)
    assert queue.renew(store, lease) == "cancel"
    queue.finish(store, lease, state="cancelled")
    ended = queue.job(job.id)
    assert ended.state == "cancelled" and queue.cancel(job.id) == ended


@pytest.mark.parametrize("arrow", [queue.hand_back, lambda *held: queue.postpone(*held, wait_s=1)])
def test_a_cancelled_job_does_not_come_back(store, running, arrow):
    job, lease = running
    queue.cancel(job.id)
    arrow(store, lease)
    assert queue.job(job.id).state == "cancelled" and queue.job(job.id).ended_at


def test_cancel_of_a_job_whose_worker_is_dead_is_immediate(store):
    job = queue.submit(spec())
    queue.claim(store, worker(store, DEAD))
    assert queue.cancel(job.id).state == "cancelled"


def at_once(*calls):
    """Call each in a thread of its own; answers or exceptions."""
    barrier = threading.Barrier(len(calls))

    def call(one):
        barrier.wait()
        try:
            return one()
        except LeaseLost as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


@pytest.mark.parametrize("seed", range(5))
def test_cancel_races_have_one_winner(store, seed):
    job, me = queue.submit(spec(seed)), worker(store)
    lease, _ = at_once(lambda: queue.claim(store, me), lambda: queue.cancel(job.id, store=store))
    if lease is None:
        assert queue.job(job.id).state == "cancelled"
        return
    assert queue.renew(store, lease) == "cancel"
    ends = ("succeeded", "cancelled")
    answers = at_once(*(lambda state=state: queue.finish(store, lease, state=state) for state in ends))
    assert [type(answer) for answer in answers].count(LeaseLost) == 1
    assert queue.job(job.id).state == ends[answers.index(None)]


def test_retry_queues_the_same_job_again(store, running):
    job, lease = running
    assert queue.retry(job.id).state == "running", "one that is alive stays as it is"
    queue.finish(store, lease, state="failed", error={"type": "Killed", "message": "", "next_step": ""})
    other = queue.submit(spec(seed=1))
    again = queue.retry(job.id)
    assert (again.id, again.state, again.error, again.attempts) == (job.id, "queued", None, 1)
    assert again.place == 2 and queue.job(other.id).place == 1
    assert queue.retry(job.id) == again


def test_retry_fresh_is_the_same_spec_as_a_new_job(store, running):
    job, lease = running
    assert queue.retry(job.id, fresh=True).id == job.id, "still running"
    queue.finish(store, lease, state="succeeded")
    with pytest.raises(Refused, match="--fresh"):
        queue.retry(job.id)
    fresh = queue.retry(job.id, fresh=True)
    assert fresh.id == job.id.replace("-1", "-2") and fresh.spec == job.spec


def test_retry_while_the_same_spec_is_alive_under_another_id_is_refused(store, running):
    job, lease = running
    queue.finish(store, lease, state="failed")
    other = queue.submit(spec())
    with pytest.raises(Refused, match=other.id):
        queue.retry(job.id)


# reclaim


def test_a_dead_worker_of_this_machine_is_noticed_at_once(store):
    job = queue.submit(spec())
    queue.claim(store, worker(store, DEAD))
    assert queue.reclaim(store, queue.Watch()) == [job.id]
    freed = queue.job(job.id)
    assert (freed.state, freed.attempts) == ("queued", 1) and "lost" in freed.message


def test_another_machine_is_given_its_time_by_the_observers_own_clock(store, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    job = queue.submit(spec())
    lease = queue.claim(store, worker(store, ELSEWHERE))
    watch = queue.Watch()
    for seconds in (0, 29, 29):
        now[0] += seconds
        assert queue.reclaim(store, watch) == [], "silence is counted from the last beat that was seen"
        queue.renew(store, lease)
    assert queue.reclaim(store, watch) == []
    now[0] += 30
    assert queue.reclaim(store, queue.Watch()) == [], "an observer counts only the silence it has watched"
    assert queue.reclaim(store, watch) == [job.id]


def test_a_beat_between_look_and_reclaim_wins(store, running):
    job, lease = running
    stale = row(store, job.id)
    queue.renew(store, lease)
    assert not leases.free(store, stale, 0)
    assert queue.job(job.id).state == "running"
    assert leases.free(store, row(store, job.id), 0)


def test_a_cancel_between_look_and_reclaim_is_kept(store, running):
    job, _ = running
    stale = row(store, job.id)
    queue.cancel(job.id)
    assert not leases.free(store, stale, 0)
    assert leases.free(store, row(store, job.id), 0) and queue.job(job.id).state == "cancelled"


def test_two_deaths_without_a_new_checkpoint_end_the_job(store):
    job = queue.submit(spec())
    for state in ("queued", "failed"):
        queue.claim(store, worker(store, DEAD))
        queue.reclaim(store, queue.Watch())
        assert queue.job(job.id).state == state
    error = queue.job(job.id).error
    assert error["type"] == "LostWorker" and job.id in error["next_step"]
    assert queue.retry(job.id).state == "queued"
    queue.claim(store, worker(store, DEAD))
    queue.reclaim(store, queue.Watch())
    assert queue.job(job.id).state == "queued", "a retry starts with no strikes"


@pytest.mark.parametrize("told_by", ["renewal", "run folder"])
def test_deaths_with_a_new_checkpoint_in_between_do_not(store, told_by):
    job = queue.submit(spec())
    for step in range(1, 8):
        lease = queue.claim(store, worker(store, DEAD))
        if told_by == "renewal":
            queue.renew(store, lease, queue.Progress(checkpoint=step))
        committed = {job.id: step if told_by == "run folder" else 0}
        queue.reclaim(store, queue.Watch(), committed=committed.get)
        assert queue.job(job.id).state == "queued"
    for state in ("queued", "failed"):  # the same checkpoint again is no progress
        queue.claim(store, worker(store, DEAD))
        queue.reclaim(store, queue.Watch(), committed=lambda _: 7)
        assert queue.job(job.id).state == state


# workers


def test_workers_that_live_are_shown(store):
    queue.submit(spec())
    here, far, dead = (worker(store, process) for process in (HERE, ELSEWHERE, DEAD))
    lease = queue.claim(store, here)
    shown = {info.id: info for info in queue.workers(store)}
    assert shown.keys() == {here.id, far.id}
    assert (shown[here.id].job_id, shown[here.id].here) == (lease.id, True)
    assert (shown[far.id].job_id, shown[far.id].here) == (None, False)
    silent = update(stores.worker).values(seen_at=time.time() - 3600)
    stores.write(store, lambda connection: connection.execute(silent))
    assert [info.id for info in queue.workers(store)] == [here.id], "an hour of silence from another machine"
    queue.show_life(store, far)
    assert len(queue.workers(store)) == 2
    queue.leave(store, far)
    assert [info.id for info in queue.workers(store)] == [here.id]
    worker(store)
    rows = stores.read(store, lambda connection: connection.execute(select(stores.worker.c.id)).scalars().all())
    assert dead.id not in rows and len(rows) == 2, "the next worker sweeps"


# Any order of arrows


class Arrows(RuleBasedStateMachine):
    """Arrows in any order, by workers that may be late, against a model of a dozen lines."""

    @initialize()
    def begin(self):
        self.store = stores.open_store("sqlite://")
        clear(self.store)
        self.worker = worker(self.store)
        self.jobs, self.leases = {}, []  # id -> [state, token, cancel asked, seed]; every lease ever given

    def alive(self, seed):
        return [i for i, (state, _, asked, of) in self.jobs.items() if of == seed and not asked and state in LIVE]

    def apply(self, lease, arrow, state):
        """A worker's arrow: with the lease still held it leads to `state`, otherwise nowhere."""
        job = self.jobs[lease.id]
        if job[0] == "running" and job[1] == lease.token:
            arrow()
            job[0] = "cancelled" if state == "queued" and job[2] else state
        else:
            with pytest.raises(LeaseLost):
                arrow()

    @rule(seed=st.integers(0, 2))
    def submit(self, seed):
        known = self.alive(seed)
        job = queue.submit(spec(seed), store=self.store)
        assert [job.id] == known or (not known and job.id not in self.jobs)
        self.jobs.setdefault(job.id, ["queued", 0, False, seed])

    @rule()
    def claim(self):
        lease = queue.claim(self.store, self.worker)
        assert (lease is None) == ("queued" not in [job[0] for job in self.jobs.values()])
        if lease:
            job = self.jobs[lease.id]
            assert job[0] == "queued"
            job[0], job[1] = "running", job[1] + 1
            assert lease.token == job[1]
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), checkpoint=st.none() | st.integers(1, 9))
    def renew(self, data, checkpoint):
        lease = data.draw(st.sampled_from(self.leases))
        progress = queue.Progress(checkpoint=checkpoint)

        def arrow():
            assert (queue.renew(self.store, lease, progress) == "cancel") == self.jobs[lease.id][2]

        self.apply(lease, arrow, "running")

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), state=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def finish(self, data, state):
        lease = data.draw(st.sampled_from(self.leases))
        self.apply(lease, lambda: queue.finish(self.store, lease, state=state), state)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def hand_back(self, data):
        lease = data.draw(st.sampled_from(self.leases))
        self.apply(lease, lambda: queue.hand_back(self.store, lease), "queued")

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def postpone(self, data):
        lease = data.draw(st.sampled_from(self.leases))
        self.apply(lease, lambda: queue.postpone(self.store, lease, wait_s=-1), "queued")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data):
        job = self.jobs[job_id := data.draw(st.sampled_from(sorted(self.jobs)))]
        queue.cancel(job_id, store=self.store)
        if job[0] in LIVE:
            job[0], job[2] = ("cancelled", False) if job[0] == "queued" else ("running", True)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def retry(self, data):
        job = self.jobs[job_id := data.draw(st.sampled_from(sorted(self.jobs)))]
        refused = job[0] == "succeeded" or (job[0] not in LIVE and self.alive(job[3]))
        try:
            queue.retry(job_id, store=self.store)
        except Refused:
            assert refused
        else:
            assert not refused
            if job[0] not in LIVE:
                job[0], job[2] = "queued", False

    @rule()
    def reclaim(self):
        """All running jobs have been silent for too long. The new checkpoint keeps them from being blamed."""
        running = {job_id for job_id, job in self.jobs.items() if job[0] == "running"}
        step = 10 + len(self.leases)
        assert set(queue.reclaim(self.store, queue.Watch(), lease_s=0, committed=lambda _: step)) == running
        for job_id in running:
            self.jobs[job_id][0] = "cancelled" if self.jobs[job_id][2] else "queued"

    @invariant()
    def agrees(self):
        jobs = {job.id: (job.state, job.cancel_requested) for job in queue.jobs(store=self.store)}
        expected = {i: (state, asked) for i, (state, _, asked, _) in self.jobs.items()}
        # Who asked to cancel is of interest only while somebody runs it.
        assert {i: (s, a and s == "running") for i, (s, a) in jobs.items()} == {
            i: (s, a and s == "running") for i, (s, a) in expected.items()
        }
        for seed in range(3):
            assert len(self.alive(seed)) <= 1


LIVE = ("queued", "running")


def searched(max_examples):
    """How hypothesis looks for an order of calls that goes wrong."""
    options = {"stateful_step_count": 40, "deadline": None, "derandomize": True}
    return settings(max_examples=max_examples, suppress_health_check=list(HealthCheck), **options)


TestArrows = Arrows.TestCase
TestArrows.settings = searched(max_examples=3)


@pytest.mark.slow
class TestMoreArrows(Arrows.TestCase):
    settings = searched(max_examples=50)
