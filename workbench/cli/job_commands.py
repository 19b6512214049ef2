"""The commands of the queue: `stillroom submit`, `jobs`, `job`, `logs`, `cancel` and `retry`."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.references import expanded
from workbench.cli import terminal

FAILED = 1  # the exit code
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `stillroom jobs` lists it.")]


def submit(
    spec: Annotated[
        Path, typer.Argument(parser=expanded, metavar="SPEC.yaml", help="A job spec or a chain; specs/ has some.")
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all jobs end; exit with 1 unless all succeeded.")
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Leave out the steps of a chain whose models are not on this machine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a job or a chain of jobs; a job that is already queued or running is not queued again."""
    from trainer.chain import Chain, read
    from workbench.launch import submission

    jobs, left_out = read(spec), dict[str, str]()
    if here and isinstance(jobs, Chain):
        jobs, left_out = submission.only_here(jobs)
    for name, model in left_out.items():
        terminal.say(f"Left out: {name}, which needs {model}.", stderr=True)
    steps = submission.submit(jobs)
    if wait:
        _warn_if_no_worker()
        steps = submission.wait(steps, view=(lambda *_: None) if as_json else terminal.show_step)
    document = submission.document(steps, whole=wait)
    terminal.answer(document, as_json=as_json, view=lambda: terminal.show_steps(steps, whole=wait))
    if wait and any(job.state != "succeeded" for job in steps.values()):
        raise typer.Exit(FAILED)


def jobs(as_json: AsJson = False) -> None:
    """List the jobs, newest first."""
    from trainer import queue

    listed = queue.jobs()
    terminal.answer([job.to_json() for job in listed], as_json=as_json, view=lambda: terminal.show_jobs(listed))


def show_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""
    from trainer import queue

    job = queue.job(job_id)
    terminal.answer(job.to_json(), as_json=as_json, view=lambda: terminal.show_job(job))


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log of a job's newest attempt."""
    from trainer import queue
    from workbench.launch import logs as job_logs

    queue.job(job_id)  # an unknown id is an error, a job without a log is not
    parts = job_logs.read(job_id, follow=follow)
    if as_json:
        terminal.print_json({"id": job_id, "log": "".join(parts)})
    else:
        for part in parts:
            print(part, end="", flush=True)


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a queued or running job; a running one stops within seconds."""
    from trainer import queue

    job = queue.cancel(job_id)
    terminal.answer(job.to_json(), as_json=as_json, view=lambda: terminal.show_state(job))


def retry(
    job_id: JobId,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new job from step 0 with the same spec.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a failed or cancelled job again; it resumes from its last checkpoint."""
    from trainer import queue

    job = queue.retry(job_id, fresh=fresh)
    terminal.answer(job.to_json(), as_json=as_json, view=lambda: terminal.show_state(job))


def _warn_if_no_worker() -> None:
    from trainer.queue import workers

    if not workers():
        terminal.say("No worker is running; start one with `stillroom worker`.", stderr=True)


COMMANDS = (submit, jobs, show_job, logs, cancel, retry)
