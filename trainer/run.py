"""The run folder: the only contract between the queue and whatever executes a run.

    runs/ID/attempt-<token>/
        spec.json       in: RunSpec, references resolved to paths and hashes, threads and device fixed
        events.jsonl    out: one JSON object a line, appended; a torn last line is not yet an event
        log.txt         out: what the child printed
        checkpoints/    out: step-<n>/, committed atomically
        artifacts/      out: model/ and what else the run publishes
        result.json     out: last; a run that has one is finished

An attempt reads the checkpoints of every attempt of its run and writes only into its own folder, so a late process
can waste time but cannot damage anything.
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

EVENT_BYTES = 1 << 20  # of one line of events; a longer one is skipped
READ_BYTES = 4 * EVENT_BYTES  # of events that are held in memory at once
RESULT_BYTES = 64 << 20
_STEP = re.compile(r"step-\d{1,10}", re.ASCII)
_ATTEMPT = re.compile(r"attempt-\d{1,10}", re.ASCII)


class RunSpec(Plain):
    """spec.json: everything a child process needs, and nothing that another machine state could change."""

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
        """An attempt at a spec whose references came to `inputs`; `threads` is for a spec that says none."""
        threads = spec.compute.threads or threads
        return cls(id=id, attempt=attempt, spec=spec, threads=threads, device=device, **_fields_of(inputs))

    @property
    def inputs(self) -> dict[str, Input]:
        """What the job references, by the name it has in JobSpec.references."""
        others = {f"others.{number}": model for number, model in enumerate(self.others)}
        each = {"model": self.model, **others, "teacher": self.teacher}
        each |= {"dataset": self.dataset, "unlabelled": self.unlabelled}
        return {name: resolved for name, resolved in each.items() if resolved}

    def with_inputs(self, inputs: Mapping[str, Input]) -> Self:
        """The same run with these in the place of its own."""
        return self.model_copy(update=_fields_of(inputs))


def _fields_of(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """The fields of a RunSpec that hold these inputs."""
    others = tuple(model for name, model in inputs.items() if name.startswith("others."))
    return {name: each for name, each in inputs.items() if not name.startswith("others.")} | {"others": others}


class Result(Plain):
    """result.json: how the run ended. `artifact` is relative to the attempt; `error` as StillroomError.to_json."""

    state: Literal["succeeded", "failed", "cancelled"]
    metrics: dict[str, float | None] = {}  # JSON has no NaN: it is written as null
    report: dict = {}
    artifact: str | None = Field(None, pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$", max_length=300)
    error: dict | None = None

    @model_validator(mode="after")
    def _says_why(self) -> "Result":
        said = self.error or {}
        if self.state == "failed" and not all(isinstance(said.get(name), str) for name in ("type", "message")):
            raise ValueError("a run that failed has an error with a type and a message")
        return self


@dataclass(frozen=True)
class Run:
    """One attempt at a job: paths, events, commits. Has no torch in it."""

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
        """The id of the run; its folder need not be there any more."""
        return self.folder.parent.name

    @property
    def spec(self) -> RunSpec:
        return self._placed(RunSpec.model_validate_json((self.folder / "spec.json").read_bytes()), present)

    @property
    def cache(self) -> Path:
        """What runs share and can compute again: outputs of teachers, pieces of corpora."""
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
        """The result, or None while there is none. ValueError for a file that holds no result."""
        try:
            with (self.folder / "result.json").open("rb") as file:
                data = file.read(RESULT_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > RESULT_BYTES:
            raise ValueError(f"a result has at most {RESULT_BYTES:,} bytes")
        return Result.model_validate_json(data)

    def finish(self, result: Result) -> None:
        """Write result.json; nothing is written to this folder after it."""
        write_file(self.folder / "result.json", result.model_dump_json(indent=2).encode())

    def emit(self, event: str, **fields: object) -> None:
        """Append one event: step {step, metrics}, evaluation {step, metrics}, plan {steps}, checkpoint {step}, note."""
        line = json.dumps({"event": event, **fields}, allow_nan=True) + "\n"
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)

    def events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Whole events after `offset` bytes, and the offset to go on from, which stays where nothing more is whole.

        At most READ_BYTES at once: read on until the offset stays. Lines that are not a JSON object, or longer than
        EVENT_BYTES, are skipped.
        """
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(max(0, offset - 1))  # the byte before tells whether the last reading ended within a line
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return [], offset
        data = data if offset else b"\n" + data
        begin, end = data.find(b"\n") + 1, data.rfind(b"\n") + 1
        too_long = len(data) - end > EVENT_BYTES
        return list(_json_objects(data[begin:end])), max(offset, offset - 1 + (len(data) if too_long else end))

    def checkpoints(self) -> list[Path]:
        """Committed checkpoints of every attempt of this run, newest step first; not yet verified."""
        there = self.folder.parent.glob("attempt-*/checkpoints/step-*")
        named = [path for path in there if _STEP.fullmatch(path.name) and _ATTEMPT.fullmatch(path.parents[1].name)]
        own = [path for path in named if (path / MANIFEST).is_file()]
        return sorted(own, key=lambda path: (checkpoint_step(path), attempt_number(path.parents[1])), reverse=True)


def checkpoint_step(folder: Path) -> int:
    """The step of a checkpoint folder, from its name."""
    return int(folder.name.removeprefix("step-"))


def attempt_number(folder: Path) -> int:
    """The number of an attempt folder, from its name."""
    return int(folder.name.removeprefix("attempt-"))


def attempts(runs: Path, job_id: str) -> list[Run]:
    """Every attempt of a job, newest first."""
    there = [path for path in (Path(runs) / job_id).glob("attempt-*") if _ATTEMPT.fullmatch(path.name)]
    return [Run(path) for path in sorted(there, key=attempt_number, reverse=True)]


def _json_objects(data: bytes) -> Iterator[dict]:
    for line in data.splitlines():
        if len(line) > EVENT_BYTES:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
