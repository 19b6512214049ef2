"""The run folder: the only contract between the queue and what executes a run.

    runs/ID/attempt-<token>/
        spec.json       in: RunSpec, references resolved to paths and hashes, threads and device fixed
        events.jsonl    out: one JSON object per line, appended; an incomplete last line is not yet an event
        log.txt         out: what the child printed
        checkpoints/    out: step-<n>/, each committed atomically
        artifacts/      out: model/ and what else the run publishes
        outcomes.json   out: the outcome of each item that was scored, without text (evaluation.outcomes)
        result.json     out: last; a run that has one is finished

An attempt reads the checkpoints of every attempt of its run and writes only to its own folder, so a late process may
waste time but cannot damage anything.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from trainer.files import MANIFEST, write_file
from trainer.home import portable, present
from trainer.prediction import Plain
from trainer.resolved import Input, ResolvedDataset, ResolvedModel
from trainer.spec import JobSpec

EVENT_BYTES = 1 << 20  # of one event; longer lines are skipped
READ_BYTES = 4 * EVENT_BYTES  # of events in memory at once
RESULT_BYTES = 64 << 20
_STEP = re.compile(r"step-\d{1,10}", re.ASCII)
_ATTEMPT = re.compile(r"attempt-\d{1,10}", re.ASCII)


class RunSpec(Plain):
    """spec.json: everything that a child process needs, fixed when the attempt is made."""

    id: str
    attempt: int
    spec: JobSpec
    model: ResolvedModel
    others: tuple[ResolvedModel, ...] = ()
    dataset: ResolvedDataset
    teacher: ResolvedModel | None = None
    unlabelled: ResolvedDataset | None = None
    threads: int
    device: str

    @classmethod
    def of(
        cls, spec: JobSpec, inputs: Mapping[str, Input], *, id: str, attempt: int, threads: int, device: str
    ) -> Self:
        """An attempt at a spec whose references are resolved to `inputs`; `threads` if the spec does not say."""
        threads = spec.compute.threads or threads
        return cls(id=id, attempt=attempt, spec=spec, threads=threads, device=device, **_fields_of(inputs))

    @property
    def inputs(self) -> dict[str, Input]:
        """The models and data sets of the run, by their names in JobSpec.references."""
        others = {f"others.{number}": model for number, model in enumerate(self.others)}
        inputs: dict[str, Input | None] = {"model": self.model, **others, "teacher": self.teacher}
        inputs |= {"dataset": self.dataset, "unlabelled": self.unlabelled}
        return {name: resolved for name, resolved in inputs.items() if resolved}

    def with_inputs(self, inputs: Mapping[str, Input]) -> Self:
        """The same run with other inputs."""
        return self.model_copy(update=_fields_of(inputs))


def _fields_of(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """The fields of a RunSpec that hold these inputs."""
    others = tuple(model for name, model in inputs.items() if name.startswith("others."))
    return {name: each for name, each in inputs.items() if not name.startswith("others.")} | {"others": others}


class Result(Plain):
    """result.json: how the run ended. `artifact` is relative to the attempt; `error` as StillroomError.to_json."""

    state: Literal["succeeded", "failed", "cancelled"]
    metrics: dict[str, float | None] = {}  # JSON has no NaN: it is written as null
    report: dict[str, Any] = {}
    artifact: str | None = Field(None, pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$", max_length=300)
    error: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_error(self) -> "Result":
        error = self.error or {}
        if self.state == "failed" and not all(isinstance(error.get(name), str) for name in ("type", "message")):
            raise ValueError("a run that failed has an error with a type and a message")
        return self


@dataclass(frozen=True)
class Run:
    """One attempt at a job, by its folder: spec, events, checkpoints and result."""

    folder: Path

    @classmethod
    def create(cls, runs: Path, spec: RunSpec) -> "Run":
        """Make runs/ID/attempt-<token>/ with its spec.json."""
        run = cls(Path(runs).absolute() / spec.id / f"attempt-{spec.attempt}")
        run.folder.mkdir(parents=True, exist_ok=True)
        write_file(run.folder / "spec.json", run._placed(spec, portable).model_dump_json(indent=2).encode())
        return run

    @property
    def id(self) -> str:
        """The id of the run, from the path of its folder."""
        return self.folder.parent.name

    @property
    def spec(self) -> RunSpec:
        return self._placed(RunSpec.model_validate_json((self.folder / "spec.json").read_bytes()), present)

    @property
    def cache(self) -> Path:
        """The folder of what runs share and can compute again: outputs of teachers, word pieces of corpora."""
        return self._home / "cache"

    @property
    def _home(self) -> Path:
        return self.folder.parents[2]

    def _placed(self, spec: RunSpec, place: Callable[[str, Path], str]) -> RunSpec:
        return spec.with_inputs({name: each.placed(place, self._home) for name, each in spec.inputs.items()})

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def result(self) -> Result | None:
        """The result, or None while there is none. Raises ValueError where the file is no valid result."""
        try:
            with (self.folder / "result.json").open("rb") as file:
                data = file.read(RESULT_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > RESULT_BYTES:
            raise ValueError(f"a result has at most {RESULT_BYTES:,} bytes")
        return Result.model_validate_json(data)

    def finish(self, result: Result) -> None:
        """Write result.json, after which nothing more is written to this folder."""
        write_file(self.folder / "result.json", result.model_dump_json(indent=2).encode())

    def emit(self, event: str, **fields: object) -> None:
        """Append an event: step {step, metrics}, evaluation {step, metrics}, plan {steps, start}, checkpoint {step} or
        note {message}.
        """
        line = json.dumps({"event": event, **fields}, allow_nan=True) + "\n"
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The complete events after `offset` bytes, and the offset from which to continue.

        Reads at most READ_BYTES: call again until the offset does not change. Skips lines that are not a JSON object or
        longer than EVENT_BYTES.
        """
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(max(0, offset - 1))  # the byte before tells whether the last call ended within a line
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return [], offset
        data = data if offset else b"\n" + data
        begin, end = data.find(b"\n") + 1, data.rfind(b"\n") + 1
        too_long = len(data) - end > EVENT_BYTES
        return list(_json_objects(data[begin:end])), max(offset, offset - 1 + (len(data) if too_long else end))

    def checkpoints(self) -> list[Path]:
        """Committed checkpoints of every attempt of this run, newest step first; not yet verified."""
        paths = self.folder.parent.glob("attempt-*/checkpoints/step-*")
        named = [path for path in paths if _STEP.fullmatch(path.name) and _ATTEMPT.fullmatch(path.parents[1].name)]
        folders = [path for path in named if (path / MANIFEST).is_file()]
        return sorted(folders, key=lambda path: (checkpoint_step(path), attempt_number(path.parents[1])), reverse=True)


def checkpoint_step(folder: Path) -> int:
    """The step of a checkpoint folder, from its name."""
    return int(folder.name.removeprefix("step-"))


def attempt_number(folder: Path) -> int:
    """The number of an attempt folder, from its name."""
    return int(folder.name.removeprefix("attempt-"))


def attempts(runs: Path, job_id: str) -> list[Run]:
    """Every attempt of a job, newest first."""
    folders = [path for path in (Path(runs) / job_id).glob("attempt-*") if _ATTEMPT.fullmatch(path.name)]
    return [Run(path) for path in sorted(folders, key=attempt_number, reverse=True)]


def _json_objects(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        if len(line) > EVENT_BYTES:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
