"""What can be asked of a model, how it travels, and how it is answered where the model is. No torch before that."""

from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.prediction import Plain, Prediction
from trainer.resolved import ResolvedModel
from workbench import explain
from workbench.explain.agreement import Ablation
from workbench.explain.explanation import Explanation
from workbench.model_cache import SHELF
from workbench.note import Note
from workbench.predict import Arm, predict

HOW = {"method_name", "options", "grain", "baseline", "context", "orders", "checks"}  # of explain_text
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
    if frame["kind"] == "explain":  # what is wrong is said before a model is loaded
        explain.methods.method(frame["options"].get("method_name", explain.METHOD), frame["options"].get("options"))
    if "target" in frame["options"]:
        explain.targets.parse(frame["options"]["target"])
    tell(stage="loading")
    loaded = SHELF.take(model)
    tell(stage="reading" if frame["kind"] == "predict" else "explaining")
    arm = Arm.model_validate(frame["arm"])
    how = {"reading": arm.reading, "max_tokens": arm.max_tokens} | frame["options"]
    if frame["kind"] == "ablate":
        return explain.ablate(note.text, *loaded, **how)
    how |= {"name": frame["name"], "cancelled": cancelled}
    how["progress"] = lambda done, rows: tell(progress=done / rows)
    if frame["kind"] == "predict":
        return predict(note, model, **how)
    stream = explain.explain_stream(note.text, *loaded, **how)
    coarse = next(stream)
    tell(coarse=coarse)
    return next(stream, coarse)
