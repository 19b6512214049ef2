"""What a model was trained on, as far as a reader of its findings should be warned. No torch."""

from trainer import zoo
from trainer.errors import StillroomError
from trainer.zoo.weights import read_json
from workbench.predict import Arm

# The shipped data sets that are no notes; a slice of one is the same kind of text.
OTHER_TEXT = {"bc5cdr": "abstracts of papers", "ncbi-disease": "abstracts of papers", "craft": "articles in journals"}


def caution(arm: str) -> str:
    """A sentence for a model that was not trained on notes; empty where it was, or where that is not known."""
    try:
        about = read_json(zoo.folder_of(Arm.parse(arm).model) / zoo.ABOUT) or {}
    except (StillroomError, OSError):
        return ""
    text = OTHER_TEXT.get(str(about.get("dataset")).removesuffix("-slice"))
    return f"Trained on {text}, not on clinical notes." if text else ""
