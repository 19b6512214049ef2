"""Which arms can be chosen, and what they are called."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trainer.errors import StillroomError
from trainer.registry import ModelEntry
from workbench.predict import Arm


def titles(ready: Sequence[ModelEntry], chosen: Iterable[str] = ()) -> dict[str, str]:
    """Every arm on offer with its title: each ready model in windows and cut off, and what is chosen of these models.

    Titles are unique, since Streamlit tells options apart by what they show.
    """
    shared = {name for name, count in Counter(entry.name for entry in ready).items() if count > 1}
    found = {}
    for entry in ready:
        told_apart = entry.role == "run" or entry.name in shared
        found[entry.id] = f"{entry.name}, {entry.id}" if told_apart else entry.name
        found[f"{entry.id}@truncate"] = f"{found[entry.id]}, {_manner(Arm(model=entry.id, reading='truncate'))}"
    for name in chosen:
        arm = _parsed(name)
        if arm and name == arm.name and name not in found and arm.model in found:
            found[name] = f"{found[arm.model]}, {_manner(arm)}"
    return found


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
