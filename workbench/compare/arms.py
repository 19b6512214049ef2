"""Which arms can be chosen, and what they are called."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trainer.errors import StillroomError
from trainer.zoo import ModelEntry
from workbench.predict import Arm


def titles(ready: Sequence[ModelEntry], chosen: Iterable[str] = ()) -> dict[str, str]:
    """Every arm on offer with its title: each ready model in windows and cut off, and what is chosen of these models.

    Titles are unique, since Streamlit tells options apart by what they show.
    """
    found = {}
    for model, title in models(ready).items():
        found[model] = title
        found[f"{model}@truncate"] = f"{title}, {_manner(Arm(model=model, reading='truncate'))}"
    for name in chosen:
        arm = _parsed(name)
        if arm and name == arm.name and name not in found and arm.model in found:
            found[name] = f"{found[arm.model]}, {_manner(arm)}"
    return found


def models(ready: Sequence[ModelEntry]) -> dict[str, str]:
    """Each model by its reference, under a title that no other has."""
    shared = {name for name, count in Counter(entry.name for entry in ready).items() if count > 1}
    return {
        entry.id: f"{entry.name}, {entry.id}" if entry.role == "run" or entry.name in shared else entry.name
        for entry in ready
    }


def _parsed(name: str) -> Arm | None:
    try:
        return Arm.parse(name)
    except StillroomError:
        return None


def _manner(arm: Arm) -> str:
    """How an arm reads."""
    if arm.max_tokens is None:
        return {"truncate": "first window only", "windows": "in windows", "whole": "in one window"}[arm.reading]
    tokens = f"{arm.max_tokens:,} tokens"
    return {
        "truncate": f"first {tokens} only",
        "windows": f"in windows of {tokens}",
        "whole": f"in one window of up to {tokens}",
    }[arm.reading]
