"""What can be asked of a model, how it travels, and how it is answered where the model is. No torch before that."""

from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.prediction import Plain, Prediction
from trainer.resolved import ResolvedModel
from workbench import explain
from workbench.explain.agreement import Ablation
from workbench.explain.explanation import Explanation
from workbench.explain.options import ExplainOptions
from workbench.model_cache import CACHE
from workbench.note import Note
from workbench.predict import Arm, predict

RESULTS = {"predict": Prediction, "explain": Explanation, "ablate": Ablation}

Tell = Callable[..., None]  # takes stage, progress or coarse, as Answer.tell does


@dataclass(frozen=True, repr=False, eq=False)
class Request:
    """A text, an arm, and what to do with them: an entry of RESULTS and its options. Its repr shows no text."""

    text: str
    arm: Arm
    kind: str = "predict"
    options: dict = field(default_factory=dict)

    def to_frame(self, model: ResolvedModel) -> dict:
        """The request in JSON, its model resolved."""
        # An arm's name depends on which of its fields were written, which JSON does not keep.
        arm, name = self.arm.model_dump(), self.arm.name
        return {"kind": self.kind, "text": self.text, "arm": arm, "name": name, "options": self.options} | {
            "model": model.model_dump()
        }


def answer(frame: dict, *, tell: Tell, cancelled: Callable[[], bool]) -> Plain:
    """Do in this process what a frame of a request asks.

    tell gets stages, progress and the coarse explanation; cancelled is asked between batches. Raises what
    workbench.predict and workbench.explain raise, and trainer.inference.window_batches.Cancelled.
    """
    note, model = Note(frame["text"]), ResolvedModel.model_validate(frame["model"])
    arm = Arm.model_validate(frame["arm"])
    window = {"reading": arm.reading, "max_tokens": arm.max_tokens}
    how = {"name": frame["name"], "cancelled": cancelled, "progress": lambda done, rows: tell(progress=done / rows)}
    if frame["kind"] == "predict":
        tell(stage="loading")
        CACHE.load(model)
        tell(stage="reading")
        return predict(note, model, **window, **how)
    target, options = frame["options"]["target"], ExplainOptions.model_validate(frame["options"]["how"] | window)
    explain.methods.method(options.method, options.method_options)  # what is wrong is said before a model is loaded
    explain.targets.parse(target)
    tell(stage="loading")
    loaded = CACHE.load(model)
    tell(stage="explaining")
    if frame["kind"] == "ablate":
        return explain.ablate(note.text, *loaded, target, frame["options"]["places"], options)
    stream = explain.explain_stream(note.text, *loaded, target, options, **how)
    coarse = next(stream)
    tell(coarse=coarse)
    return next(stream, coarse)
