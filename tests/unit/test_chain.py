"""Chains: what may stand in the file, and in which order their jobs come to run, stop and go on.

STILLROOM_TEST_DB runs the same tests on another database, for example postgresql+psycopg://postgres@localhost/test.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import scripted_run
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import delete, event

from trainer import chain, queue
from trainer.errors import BadSpec, LeaseLost, Refused
from trainer.queue import store as stores
from trainer.queue.engines import Process
from trainer.spec import JobSpec, parse

HERE = Process.of(os.getpid())
DEAD = HERE._replace(start="1")  # an earlier process with this id
TEACH = {"kind": "distill", "recipe": "task_kd"}


def made(*steps, **common):
    """A chain of fine-tuning steps, unless they say otherwise; their seeds differ."""
    usual = [{"kind": "finetune", "seed": seed} for seed in range(len(steps))]
    return chain.parse({"dataset": "bc5cdr", **common, "steps": [a | b for a, b in zip(usual, steps, strict=True)]})


def line(*names):
    """Steps that each take the model of the one before."""
    first, *rest = names
    steps = [{"name": name, "model": f"@{before}"} for before, name in zip(names, rest, strict=False)]
    return made({"name": first, "model": "minilm"}, *steps)


def problems(chain_fields):
    with pytest.raises(BadSpec) as caught:
        chain.parse(chain_fields)
    fields = caught.value.fields
    assert len(set(fields)) == len(fields), "named twice"
    return dict(fields)


# The file


def test_a_chain_is_its_steps_in_order_with_common_fields_as_defaults():
    steps = [
        {"name": "teacher", "model": "minilm", "schedule": {"epochs": 2}},
        {"name": "student", "teacher": "@teacher", "student": {"layers": 3}, "seed": 7} | TEACH,
        {"name": "score", "kind": "evaluate", "model": "@student", "dataset": "ncbi-disease"},
    ]
    common = {"kind": "finetune", "dataset": "bc5cdr", "seed": 3, "schedule": {"steps": 9, "max_tokens": 128}}
    teacher, student, score = chain.parse(common | {"steps": steps}).steps
    assert [step.name for step in (teacher, student, score)] == ["teacher", "student", "score"]
    assert (teacher.spec.seed, student.spec.seed, score.spec.dataset) == (3, 7, "ncbi-disease")
    assert (teacher.spec.schedule.epochs, teacher.spec.schedule.steps) == (2, None), "instead of the common steps"
    assert (teacher.spec.schedule.max_tokens, student.spec.schedule.steps) == (128, 9)


def named(spec):
    """The models of a spec by the field in which each is written."""
    return {each.field: each.name for each in spec.references("model")}


@pytest.mark.parametrize(
    ("spec_fields", "fields", "inputs"),
    [
        ({"kind": "finetune", "model": "a"}, ["model", "dataset"], ["model", "dataset"]),
        ({"kind": "finetune", "model": {"base": "a", "layers": 1}}, ["model.base", "dataset"], ["model", "dataset"]),
        (
            {"kind": "average", "model": ["a", "b", "c"]},
            ["model.0", "model.1", "model.2", "dataset"],
            ["model", "others.0", "others.1", "dataset"],
        ),
        (
            {"teacher": "t", "student": "s", "kind": "distill", "recipe": {"name": "task_kd", "unlabelled": "u"}},
            ["student", "teacher", "dataset", "recipe.unlabelled"],
            ["model", "teacher", "dataset", "unlabelled"],
        ),
        (
            {"teacher": "t", "student": {"layers": 3}} | TEACH,
            ["teacher", "teacher", "dataset"],
            ["model", "teacher", "dataset"],
        ),
    ],
)
def test_a_spec_says_all_that_it_refers_to_where_it_is_written_and_what_it_is_to_the_run(spec_fields, fields, inputs):
    references = parse({"dataset": "bc5cdr"} | spec_fields).references()
    assert [each.field for each in references] == fields
    assert [each.input for each in references] == inputs


def test_references_are_found_and_replaced_wherever_one_may_stand():
    fields = {"teacher": "@a", "student": {"base": "@b", "layers": 3}, "dataset": "bc5cdr"} | TEACH
    step = chain.Step("c", parse(fields))
    assert named(step.spec) == {"teacher": "@a", "student.base": "@b"}
    bound = step.bound({"a": "00000000-1", "b": "00000000-2"})
    assert named(bound) == {"teacher": "00000000-1", "student.base": "00000000-2"}
    assert bound == parse(fields | {"teacher": "00000000-1", "student": {"base": "00000000-2", "layers": 3}})


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("@c", "does not come before 'b'"),
        ("@b", "does not come before 'b'"),
        ("@aa", "no earlier step 'aa'. Did you mean 'a'? Known: a, score."),
        ("@", "no earlier step ''"),
        ("@score", "makes no model: its kind is evaluate"),
    ],
)
@pytest.mark.parametrize("field", ["model", "teacher", "student", "student.base"])
def test_a_step_can_only_use_a_model_that_an_earlier_one_makes(field, reference, problem):
    names = {"model": {"model": reference}, "teacher": {"teacher": reference, "student": "minilm"}}
    names |= {"student": {"teacher": "minilm", "student": reference}}
    names |= {"student.base": {"teacher": "minilm", "student": {"base": reference}}}
    steps = [
        {"name": "a", "kind": "finetune", "model": "minilm"},
        {"name": "score", "kind": "evaluate", "model": "@a"},
        {"name": "b", **({"kind": "finetune"} if field == "model" else TEACH), **names[field]},
        {"name": "c", "kind": "finetune", "model": "minilm"},
    ]
    wrong = problems({"dataset": "bc5cdr", "steps": steps})
    assert wrong.keys() == {f"steps.b.{field}"} and problem in wrong[f"steps.b.{field}"]


def test_two_steps_that_wait_for_each_other_are_refused():
    steps = [{"name": "a", "model": "@b"}, {"name": "b", "model": "@a"}]
    assert problems({"kind": "finetune", "dataset": "bc5cdr", "steps": steps}).keys() == {"steps.a.model"}


@pytest.mark.parametrize("steps", [None, [], {}, "ab", 3])
def test_steps_are_a_list(steps):
    assert "a list of steps is needed" in problems({"steps": steps})["steps"]


def test_steps_that_cannot_be_told_apart_are_named_by_their_number():
    steps = [{"name": "a"}, {"name": "a"}, {}, {"name": 4}, {"name": "b.c"}, "finetune", {"name": "@d"}]
    wrong = problems({"steps": steps})
    assert list(wrong) == ["steps.2.name", "steps.3.name", "steps.4.name", "steps.5.name", "steps.6", "steps.7.name"]
    assert "an earlier step is named a too" in wrong["steps.2.name"]


def test_every_wrong_field_of_every_step_is_named_once():
    steps = [
        {"name": "a", "model": "minilm", "schedule": {"lr": 5}, "colour": "red"},
        {"name": "b", "model": "@c", "limit": 0},
        {"name": "score", "kind": "evaluate", "model": "@a", "recipe": "finetune", "seed": 1},
    ]
    wrong = problems({"kind": "finetune", "seed": "seven", "size": 3, "steps": steps})
    expected = {"size", "seed", "steps.a.dataset", "steps.a.schedule.lr", "steps.a.colour", "steps.b.dataset"}
    assert set(wrong) == expected | {"steps.b.model", "steps.b.limit", "steps.score.dataset"}
    assert "Known: " in wrong["size"] and "seven" in wrong["seed"]
    wrong = problems({"dataset": "bc5cdr", "steps": steps[2:]})
    assert "evaluate takes no recipe" in wrong["steps.score"] and "steps.score.model" in wrong


def test_read_tells_a_chain_from_a_spec(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("kind: finetune\nmodel: minilm\ndataset: bc5cdr\n")
    assert isinstance(chain.read(path), JobSpec)
    path.write_text('kind: finetune\ndataset: d\nsteps: [{name: a, model: minilm}, {name: b, model: "@a"}]\n')
    assert [step.name for step in chain.read(path).steps] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (
            "steps:\n  - {name: a, model: @b}\n",
            "spec",
            'line 2: YAML needs quotes around a reference to a step: "@',
        ),
        ("steps: [", "spec", "is not YAML"),
        ("- steps", "spec", "must hold fields such as `kind: finetune`, found a list"),
        ("", "spec", "found nothing"),
        ("finetune", "spec", "found a single value"),
        ("kind: finetune\nmodel: '@a'\ndataset: bc5cdr\n", "model", "no earlier step 'a'"),
        (None, "spec", "there is no file"),
    ],
)
def test_a_file_that_is_not_a_chain_is_refused(tmp_path, text, field, message):
    if text is not None:
        (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(BadSpec) as caught:
        chain.read(tmp_path / "spec.yaml")
    ((place, problem),) = caught.value.fields
    assert place == field and message in problem


def test_problems_of_a_change_are_gathered_from_all_steps():
    def refuse(spec):
        raise BadSpec([("dataset", f"not {spec.seed}")])

    with pytest.raises(BadSpec) as caught:
        line("a", "b").each(refuse)
    assert caught.value.fields == (("steps.a.dataset", "not 0"), ("steps.b.dataset", "not 1"))
    assert line("a", "b").each(lambda spec: spec) == line("a", "b")


# The queue


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


@pytest.fixture
def worker(store):
    return queue.enlist(store, device="cpu", process=HERE)


@pytest.fixture
def end(store, worker):
    """Claim the next job and end it: end(job id, state)."""

    def claim_and_finish(job_id, state="succeeded", **fields):
        lease = queue.claim(store, worker)
        assert lease.id == job_id
        queue.finish(store, lease, state=state, **fields)

    return claim_and_finish


def ids_of(chain_made):
    return {name: job.id for name, job in queue.submit_chain(chain_made).items()}


def state_of(job_id):
    return queue.job(job_id).state


def test_every_step_is_a_job_whose_spec_names_run_ids(store):
    jobs = queue.submit_chain(line("a", "b", "c"))
    assert list(jobs) == ["a", "b", "c"]
    ids = {name: job.id for name, job in jobs.items()}
    assert [jobs[name].spec["model"] for name in "abc"] == ["minilm", ids["a"], ids["b"]]
    assert [jobs[name].needs for name in "abc"] == [(), (ids["a"],), (ids["b"],)]
    assert [jobs[name].place for name in "abc"] == [1, None, None]
    assert queue.waiting(store) == (1, 3)
    assert {job.id: job.waits_for for job in queue.jobs()} == {job.id: job.waits_for for job in jobs.values()}
    assert jobs["c"].waits_for == (ids["b"],)
    assert queue.submit_chain(line("a", "b", "c")) == jobs, "submitting twice is submitting once"


def test_a_job_is_claimed_when_all_that_it_needs_has_succeeded(store, worker):
    ids = ids_of(
        made(
            {"name": "a", "model": "minilm"},
            {"name": "b", "model": "minilm"},
            {"name": "c", "teacher": "@a", "student": {"base": "@b", "layers": 3}} | TEACH,
        )
    )
    first, second = queue.claim(store, worker), queue.claim(store, worker)
    assert (first.id, second.id, queue.claim(store, worker)) == (ids["a"], ids["b"], None)
    assert set(queue.job(ids["c"]).needs) == {ids["a"], ids["b"]}
    queue.finish(store, first, state="succeeded")
    assert queue.claim(store, worker) is None and queue.waiting(store) == (0, 1)
    assert queue.job(ids["c"]).waits_for == (ids["b"],)
    queue.finish(store, second, state="succeeded")
    assert queue.job(ids["c"]).place == 1 and queue.job(ids["c"]).waits_for == ()
    assert queue.claim(store, worker).id == ids["c"]


def test_a_failed_step_stops_what_depends_on_it_and_nothing_else(store, end):
    steps = [{"name": "b", "model": "@a"}, {"name": "c", "model": "@b"}, {"name": "d", "model": "@a"}]
    ids = ids_of(made({"name": "a", "model": "minilm"}, *steps))
    other = queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "seed": 99}))
    end(ids["a"])
    end(ids["b"], "failed", error={"type": "BadData", "message": "three columns", "next_step": "Correct it."})
    stopped = queue.job(ids["c"])
    assert stopped.state == "cancelled" and stopped.ended_at and stopped.attempts == 0 and stopped.waits_for == ()
    assert stopped.error["type"] == "NotStarted" and stopped.error["needed"] == ids["b"]
    assert f"Job {ids['b']} (finetune on bc5cdr), which this one needs, has failed." == stopped.error["message"]
    assert f"stillroom retry {ids['b']}" in stopped.error["next_step"]
    assert [state_of(job_id) for job_id in (ids["a"], ids["d"], other.id)] == ["succeeded", "queued", "queued"]
    end(ids["d"])
    end(other.id)
    assert queue.waiting(store) == (0, 0), "nothing is left that a draining worker would wait for"


def test_retry_of_the_failed_step_queues_what_was_stopped_for_it(store, end):
    ids = ids_of(line("a", "b", "c", "d"))
    end(ids["a"])
    end(ids["b"], "failed")
    for name in "cd":
        with pytest.raises(Refused, match=f"Job {ids['b']} .* has failed.*stillroom retry {ids['b']}"):
            queue.retry(ids[name])
    queue.retry(ids["b"])
    again = [queue.job(ids[name]) for name in "bcd"]
    assert [(job.state, job.error, job.ended_at) for job in again] == [("queued", None, None)] * 3
    assert [job.waits_for for job in again] == [(), (ids["b"],), (ids["c"],)]
    for name in "bcd":
        end(ids[name])


def test_what_a_person_cancelled_stays_cancelled(store, end):
    ids = ids_of(line("a", "b", "c"))
    queue.cancel(ids["b"])
    assert queue.job(ids["b"]).error is None
    assert "was cancelled" in queue.job(ids["c"]).error["message"]
    end(ids["a"], "failed")
    queue.retry(ids["a"])
    assert [state_of(ids[name]) for name in "abc"] == ["queued", "cancelled", "cancelled"]
    assert queue.job(ids["c"]).error["needed"] == ids["b"]
    assert queue.retry(ids["b"]).waits_for == (ids["a"],)
    assert state_of(ids["c"]) == "queued"


def test_what_two_failures_stopped_goes_on_when_both_are_retried(store, end):
    steps = [
        {"name": "a", "model": "minilm"},
        {"name": "b", "model": "minilm"},
        {"name": "c", "teacher": "@a", "student": "@b"} | TEACH,
        {"name": "d", "model": "@c"},
    ]
    ids = ids_of(made(*steps))
    end(ids["a"], "failed")
    end(ids["b"], "failed")
    assert [queue.job(ids[name]).error["needed"] for name in "cd"] == [ids["a"]] * 2
    queue.retry(ids["a"])
    assert [queue.job(ids[name]).error["needed"] for name in "cd"] == [ids["b"]] * 2, "the one that is in the way now"
    queue.retry(ids["b"])
    assert [state_of(ids[name]) for name in "cd"] == ["queued"] * 2


@pytest.mark.parametrize("arrow", ["finish", "hand back", "postpone", "lost", "blamed", "orphan"])
def test_every_bad_end_stops_what_depends_on_it(store, arrow):
    ids = ids_of(line("a", "b", "c"))
    lease = queue.claim(store, queue.enlist(store, device="cpu", process=HERE if arrow != "orphan" else DEAD))
    if arrow == "blamed":
        queue.reclaim(store, queue.Watch(), lease_s=0)
        lease = queue.claim(store, queue.enlist(store, device="cpu", process=HERE))
    else:
        queue.cancel(lease.id)
    match arrow:
        case "finish":
            queue.finish(store, lease, state="cancelled")
        case "hand back":
            queue.hand_back(store, lease)
        case "postpone":
            queue.postpone(store, lease, wait_s=9)
        case "lost" | "blamed":
            queue.reclaim(store, queue.Watch(), lease_s=0)
    ended = "failed" if arrow == "blamed" else "cancelled"
    assert [state_of(ids[name]) for name in "abc"] == [ended, "cancelled", "cancelled"]
    assert {queue.job(ids[name]).error["needed"] for name in "bc"} == {ids["a"]}


@pytest.mark.parametrize("arrow", [queue.hand_back, lambda *held: queue.postpone(*held, wait_s=-1)])
def test_a_step_that_is_put_back_stops_nothing(store, worker, arrow):
    ids = ids_of(line("a", "b"))
    arrow(store, queue.claim(store, worker))
    assert [state_of(job_id) for job_id in ids.values()] == ["queued", "queued"]


def test_a_single_spec_may_name_a_run_that_has_not_ended(store, end):
    first = queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr"}))
    score = parse({"kind": "evaluate", "model": first.id, "dataset": "bc5cdr"})
    waiting = queue.submit(score)
    assert waiting.waits_for == (first.id,)
    end(first.id, "failed")
    assert state_of(waiting.id) == "cancelled"
    for again in (lambda: queue.submit(score), lambda: queue.retry(waiting.id, fresh=True)):
        with pytest.raises(Refused, match=f"Job {first.id} .*has failed.*Nothing was queued"):
            again()
    assert len(queue.jobs()) == 2
    queue.retry(first.id)
    assert queue.submit(score).id == waiting.id


# Submitting a chain again


def finish_with_model(store, worker, folder, job_id):
    lease = queue.claim(store, worker)
    assert lease.id == job_id
    artifact = folder / job_id
    artifact.mkdir()
    (artifact / "model.safetensors").touch()
    queue.finish(store, lease, state="succeeded", artifact=str(artifact))
    return artifact


def test_a_chain_that_is_submitted_again_repeats_no_finished_step(store, worker, end, tmp_path):
    first = ids_of(line("a", "b", "c"))
    finish_with_model(store, worker, tmp_path, first["a"])
    end(first["b"], "failed")
    again = ids_of(line("a", "b", "c"))
    assert again["a"] == first["a"] and queue.job(again["a"]).attempts == 1
    assert again["b"] == first["b"].replace("-1", "-2") and again["c"] != first["c"]
    assert queue.job(again["c"]).waits_for == (again["b"],)
    finish_with_model(store, worker, tmp_path, again["b"])
    assert ids_of(line("a", "b", "c")) == again, "the last one is still queued"
    finish_with_model(store, worker, tmp_path, again["c"])
    assert ids_of(line("a", "b", "c")) == again
    longer = ids_of(line("a", "b", "c", "d"))
    assert list(longer.values())[:3] == list(again.values()) and queue.waiting(store) == (1, 1)


def test_a_step_whose_model_is_gone_is_made_again_with_all_that_follows(store, worker, tmp_path):
    first = ids_of(line("a", "b"))
    gone = finish_with_model(store, worker, tmp_path, first["a"])
    finish_with_model(store, worker, tmp_path, first["b"])
    (gone / "model.safetensors").unlink()
    again = ids_of(line("a", "b"))
    assert not set(again.values()) & set(first.values())
    assert queue.job(again["b"]).needs == (again["a"],)


def test_a_score_has_no_model_that_could_be_gone(store, worker, end, tmp_path):
    chain_made = made({"name": "a", "model": "minilm"}, {"name": "b", "kind": "evaluate", "model": "@a"})
    first = ids_of(chain_made)
    finish_with_model(store, worker, tmp_path, first["a"])
    end(first["b"])
    assert ids_of(chain_made) == first and queue.waiting(store) == (0, 0)


def test_a_chain_is_submitted_whole_or_not_at_all(store):
    """The database fails at the third job of three."""
    inserted = []

    @event.listens_for(store, "before_cursor_execute")
    def fail_at_the_third(connection, cursor, statement, *_):
        if statement.startswith("INSERT INTO job "):
            inserted.append(statement)
            if len(inserted) == 3:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        queue.submit_chain(line("a", "b", "c"))
    assert len(inserted) == 3 and queue.jobs() == []


# Races


def at_once(*calls):
    """Call each in a thread of its own; answers or exceptions."""
    barrier = threading.Barrier(len(calls))

    def call(one):
        barrier.wait()
        try:
            return one()
        except (LeaseLost, Refused) as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_sixteen_submits_of_a_chain_at_once_are_one_chain(store):
    steps = line("a", "b", "c")
    submitted = at_once(*[lambda: {name: job.id for name, job in queue.submit_chain(steps, store=store).items()}] * 16)
    assert all(ids == submitted[0] for ids in submitted) and len(queue.jobs()) == 3


def test_two_workers_share_a_chain_and_no_step_comes_too_early(store):
    """Every worker claims as fast as it can; the queue alone keeps the order."""
    steps = [{"name": "s0", "model": "minilm"}]
    steps += [{"name": f"s{n}", "model": f"@s{(n - 1) // 2}"} for n in range(1, 12)]
    ids = ids_of(made(*steps))
    started, ended = [], set()

    def serve():
        me = queue.enlist(store, device="cpu", process=HERE)
        while queue.waiting(store)[1] or len(ended) < len(ids):
            if lease := queue.claim(store, me):
                started.append((lease.id, set(queue.job(lease.id, store=store).needs) <= ended))
                ended.add(lease.id)
                queue.finish(store, lease, state="succeeded")

    at_once(serve, serve, serve)
    assert sorted(job_id for job_id, _ in started) == sorted(ids.values())
    assert all(in_order for _, in_order in started)
    assert {job.state for job in queue.jobs()} == {"succeeded"}


@pytest.mark.parametrize("seed", range(5))
def test_cancel_while_claiming_leaves_nothing_that_waits(store, worker, seed):
    ids = ids_of(made({"name": "a", "model": "minilm", "seed": seed}, {"name": "b", "model": "@a"}))
    lease, _ = at_once(lambda: queue.claim(store, worker), lambda: queue.cancel(ids["a"], store=store))
    if lease:
        assert state_of(ids["b"]) == "queued" and queue.renew(store, lease) == "cancel"
        queue.finish(store, lease, state="cancelled")
    assert [state_of(job_id) for job_id in ids.values()] == ["cancelled", "cancelled"]
    assert queue.claim(store, worker) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_job_submitted_while_its_need_fails_does_not_wait_for_it(store, worker, seed):
    """Whichever is first: refused, or stopped; never queued behind a job that has failed."""
    first = queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "seed": seed}))
    score = parse({"kind": "evaluate", "model": first.id, "dataset": "bc5cdr"})
    retried = queue.submit(score.model_copy(update={"seed": 1}))
    queue.cancel(retried.id)
    lease = queue.claim(store, worker)
    at_once(
        lambda: queue.finish(store, lease, state="failed"),
        lambda: queue.submit(score, store=store),
        lambda: queue.retry(retried.id, store=store),
    )
    assert state_of(first.id) == "failed"
    assert {job.state for job in queue.jobs()} <= {"failed", "cancelled"}
    queue.retry(first.id)
    assert queue.claim(store, worker).id == first.id


# Any small chain, any outcome


class Chains(RuleBasedStateMachine):
    """Arrows in any order over the jobs of a random chain, against a model that knows only what each job needs.

    The model holds what happened to each job itself; whether it is stopped follows from those that it needs.
    """

    @initialize(data=st.data(), size=st.integers(2, 6))
    def begin(self, data, size):
        self.store = stores.open_store(os.environ.get("STILLROOM_TEST_DB") or "sqlite://")
        clear(self.store)
        self.worker = queue.enlist(self.store, device="cpu", process=HERE)
        steps = []
        for n in range(size):
            names = st.sampled_from(["minilm", *(f"@s{earlier}" for earlier in range(n))])
            if data.draw(st.booleans()):
                student = {"base": data.draw(names), "layers": 3}
                steps.append({"name": f"s{n}", "teacher": data.draw(names), "student": student} | TEACH)
            else:
                steps.append({"name": f"s{n}", "model": data.draw(names)})
        chain_made = made(*steps)
        jobs = queue.submit_chain(chain_made, store=self.store)
        self.needs = {
            jobs[step.name].id: {jobs[name[1:]].id for name in named(step.spec).values() if name.startswith("@")}
            for step in chain_made.steps
        }
        self.states = dict.fromkeys(self.needs, "queued")  # in the order of the chain
        self.asked, self.leases = set(), {}

    def state(self, job_id):
        """What the job should be by itself and by all that it needs."""
        if self.states[job_id] == "queued" and any(self.is_bad(needed) for needed in self.needs[job_id]):
            return "stopped"
        return self.states[job_id]

    def is_bad(self, job_id):
        return self.state(job_id) in ("failed", "cancelled", "stopped")

    def may_start(self):
        queued = [job_id for job_id in self.states if self.state(job_id) == "queued"]
        return [i for i in queued if all(self.states[needed] == "succeeded" for needed in self.needs[i])]

    def end(self, job_id, state):
        self.states[job_id] = "cancelled" if state == "queued" and job_id in self.asked else state
        self.asked.discard(job_id)
        del self.leases[job_id]

    @rule()
    def claim(self):
        lease, expected = queue.claim(self.store, self.worker), self.may_start()
        assert (lease.id in expected) if expected else lease is None
        if lease:
            self.states[lease.id] = "running"
            self.leases[lease.id] = lease

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), state=st.sampled_from(["succeeded", "succeeded", "failed", "cancelled", "queued"]))
    def finish(self, data, state):
        lease = self.leases[data.draw(st.sampled_from(sorted(self.leases)))]
        if state == "queued":
            queue.hand_back(self.store, lease)
        else:
            queue.finish(self.store, lease, state=state)
        self.end(lease.id, state)

    @precondition(lambda self: self.leases)
    @rule()
    def lose_all_workers(self):
        queue.reclaim(self.store, queue.Watch(), lease_s=0, committed=lambda _: 10**6 + self.steps())
        for job_id in list(self.leases):
            self.end(job_id, "queued")

    def steps(self):
        """Grows with every call, so that each lost worker leaves a new checkpoint behind and no job is blamed."""
        self.count = getattr(self, "count", 0) + 1
        return self.count

    @rule(data=st.data())
    def cancel(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        queue.cancel(job_id, store=self.store)
        if self.state(job_id) == "queued":
            self.states[job_id] = "cancelled"
        elif self.states[job_id] == "running":
            self.asked.add(job_id)

    @rule(data=st.data())
    def retry(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        state, hindered = self.state(job_id), any(self.is_bad(needed) for needed in self.needs[job_id])
        refused = state == "succeeded" or (state in ("failed", "cancelled", "stopped") and hindered)
        try:
            queue.retry(job_id, store=self.store)
        except Refused:
            assert refused
        else:
            assert not refused
            if state in ("failed", "cancelled"):
                self.states[job_id] = "queued"

    @invariant()
    def agrees(self):
        jobs = {job.id: job for job in queue.jobs(store=self.store)}
        for job_id, job in jobs.items():
            expected = self.state(job_id)
            assert job.state == ("cancelled" if expected == "stopped" else expected)
            assert set(job.needs) == self.needs[job_id]
            assert (job.error is not None) == (expected == "stopped")
            if expected == "stopped":
                assert self.states[job.error["needed"]] in ("failed", "cancelled") and job.attempts == 0
            if job.attempts:
                assert all(self.states[needed] == "succeeded" for needed in self.needs[job_id]), "it began too early"
        assert queue.waiting(self.store)[0] == len(self.may_start())

    def teardown(self):
        """Whatever has happened, the rest ends."""
        if not hasattr(self, "states"):
            return
        for lease in self.leases.values():
            queue.finish(self.store, lease, state="succeeded")
        while lease := queue.claim(self.store, self.worker):
            queue.finish(self.store, lease, state="succeeded")
        assert queue.waiting(self.store) == (0, 0)
        assert all(job.ended_at for job in queue.jobs(store=self.store))


def searched(max_examples):
    """How hypothesis looks for an order of calls that goes wrong."""
    options = {"stateful_step_count": 30, "deadline": None, "derandomize": True}
    return settings(max_examples=max_examples, suppress_health_check=list(HealthCheck), **options)


TestChains = Chains.TestCase
TestChains.settings = searched(max_examples=3)


@pytest.mark.slow
class TestMoreChains(Chains.TestCase):
    settings = searched(max_examples=40)
