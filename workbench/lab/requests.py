"""Requests to a model, as frames, and how they are answered in the process that holds it. Imports without torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer import zoo
from trainer.errors import StillroomError
from trainer.prediction import Cost, Plain, Prediction
from trainer.resolved import ResolvedModel
from workbench import explain
from workbench.explain.agreement import Ablation
from workbench.explain.explanation import Explanation
from workbench.explain.options import ExplainOptions
from workbench.lab.frames import Frame
from workbench.lab.turns import Turns
from workbench.model_cache import CACHE
from workbench.note import Note
from workbench.predict import Arm, predict

RESULTS: dict[str, type[Plain]] = {"predict": Prediction, "explain": Explanation, "ablate": Ablation}

Report = Callable[..., None]  # takes stage, progress or coarse, as Answer.report does


@dataclass(frozen=True, repr=False, eq=False)
class Request:
    """A text, an arm, and what to do with them: an entry of RESULTS and its options. Its repr shows no text.

    hypothesis: for a model of pairs. question: for one that answers it. A prediction has the option `relations`: the
    model that labels them.
    """

    text: str
    arm: Arm
    kind: str = "predict"
    options: dict[str, Any] = field(default_factory=dict)
    hypothesis: str = ""
    question: str = ""

    def to_frame(self, model: ResolvedModel) -> Frame:
        """The request as JSON, with its model resolved."""
        # An arm's name depends on which of its fields were set, which JSON does not keep.
        arm, name = self.arm.model_dump(), self.arm.name
        asked = {"kind": self.kind, "text": self.text, "options": self.options}
        asked |= {"hypothesis": self.hypothesis, "question": self.question}
        if relating := self.options.get("relations"):
            asked["relations"] = zoo.resolve(relating).model_dump()
        return asked | {"arm": arm, "name": name, "model": model.model_dump()}


def answer(frame: Frame, *, report: Report, cancelled: Callable[[], bool], turns: Turns) -> Plain:
    """Answer a request in this process, in turns with others. The cost of a prediction is without the waiting.

    report is called with stages, progress and the coarse explanation; cancelled is called every few batches. Raises
    what workbench.predict and workbench.explain raise, and trainer.inference.window_batches.Cancelled.
    """
    number, waited = frame["number"], 0.0

    def stopped() -> bool:
        nonlocal waited
        waited += turns.pass_on(number)
        return cancelled()

    with turns.taking(number):
        if cancelled():
            raise StillroomError("The request was cancelled.")
        result = _compute(frame, report=report, cancelled=stopped)
    return _without_waiting(result, 1000 * waited) if isinstance(result, Prediction) and waited else result


def _without_waiting(prediction: Prediction, waited_ms: float) -> Prediction:
    cost = prediction.cost
    latency_ms = max(cost.latency_ms - waited_ms, 0.001)
    speed = cost.tokens_per_second * cost.latency_ms / latency_ms
    return prediction.model_copy(update={"cost": Cost(latency_ms=latency_ms, tokens_per_second=speed)})


def _compute(frame: Frame, *, report: Report, cancelled: Callable[[], bool]) -> Plain:
    others = {name: frame[name] for name in ("hypothesis", "question")}
    note, model = Note(frame["text"], **others), ResolvedModel.model_validate(frame["model"])
    arm = Arm.model_validate(frame["arm"])

    def progress(done: int, rows: int) -> None:
        report(progress=done / rows)

    if frame["kind"] == "predict":
        report(stage="loading")
        CACHE.load(model)
        relating = ResolvedModel.model_validate(frame["relations"]) if frame.get("relations") else None
        report(stage="reading")
        return predict(
            note,
            model,
            relations=relating,
            reading=arm.reading,
            max_tokens=arm.max_tokens,
            name=frame["name"],
            cancelled=cancelled,
            progress=progress,
        )
    target, window = frame["options"]["target"], {"reading": arm.reading, "max_tokens": arm.max_tokens}
    options = ExplainOptions.model_validate(frame["options"]["how"] | window)
    explain.methods.make_method(options.method, options.method_options)  # errors before a model is loaded
    explain.targets.parse(target)
    report(stage="loading")
    loaded = CACHE.load(model)
    report(stage="explaining")
    if frame["kind"] == "ablate":
        places = frame["options"]["places"]
        return explain.ablate(note.text, *loaded, target, places, options, **others)
    stream = explain.explain_stream(
        note.text,
        *loaded,
        target,
        options,
        **others,
        name=frame["name"],
        cancelled=cancelled,
        progress=progress,
    )
    coarse = next(stream)
    report(coarse=coarse)
    return next(stream, coarse)
