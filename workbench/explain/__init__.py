"""Why a model said it: a note, a model and a target give an Explanation, and how far to rely on it.

    explain(note, model, target) -> Explanation            explain_text is the same with a loaded model
    explain_stream(...) -> a coarse answer, then the fine one
    ablate(...) -> the target's probability without some places of the note

A note that is longer than the model's window is explained in the window that the target is read in; parts outside it
have the score 0 and are in `coverage.unread`. Everything here imports without torch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer import zoo
from trainer.datasets.rows.pieces import Pieces, cut, frame
from trainer.datasets.rows.words import words_in
from trainer.errors import BadData, BadSpec, UnknownName
from trainer.prediction import Cost, Coverage
from trainer.resolved import ResolvedModel
from workbench.explain import faithfulness, targets
from workbench.explain.agreement import Ablation
from workbench.explain.explanation import Attribution, Explanation
from workbench.explain.grains import GRAINS, units
from workbench.explain.methods import METHODS, method, scores
from workbench.explain.targets import Target, parse, require_task
from workbench.model_cache import SHELF
from workbench.note import Note

if TYPE_CHECKING:
    from trainer.inference.target_score import Follow, Probe

__all__ = ["GRAINS", "METHODS", "ablate", "explain", "explain_stream", "explain_text", "targets"]
METHOD = "integrated_gradients"
COARSE = ("feature_ablation", "sentence")


def explain(note: Note, model: str | ResolvedModel, target: Target | str, *, name: str = "", **how: Any) -> Explanation:
    """Why a model says `target` of a note, computed in this process (which imports torch here).

    The options are those of explain_text. `name` is how the explanation names its model; by default the reference.
    """
    resolved = zoo.resolve(model) if isinstance(model, str) else model
    target = parse(target) if isinstance(target, str) else target
    method(how.get("method_name", METHOD), how.get("options"))  # what is wrong is said before a model is loaded
    return explain_text(note.text, *SHELF.take(resolved), target, name=name or resolved.reference, **how)


def explain_text(
    text: str,
    model: Any,
    tokenizer: Any,
    target: Target | str,
    *,
    name: str,
    method_name: str = METHOD,
    options: dict | None = None,
    grain: str | None = None,
    baseline: str | None = None,
    context: bool = False,
    orders: int = faithfulness.ORDERS,
    checks: bool = False,
    reading: str = "windows",
    max_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Explanation:
    """Explain one target with a loaded model.

    method_name, options: an entry of METHODS and its options. grain: one of GRAINS, by default the method's. baseline:
    "mask" or "pad", the token whose word embedding hidden pieces get; by default mask where the tokenizer has one.
    context: the target's own words stay in place, so what is around them is explained. orders: random orders that
    faithfulness is measured against, 0 for none. checks: infidelity, sensitivity and randomised weights too. reading
    and max_tokens: as in trainer.inference.predict_many. progress gets (rows read, rows in all) after each batch,
    cancelled is asked before each. Raises BadSpec, BadData, UnknownName, Unavailable and Cancelled; messages hold
    offsets alone.
    """
    from trainer.inference.target_score import Follow

    began = time.perf_counter()
    chosen = method(method_name, options)
    grain = grain or chosen.grain
    follow = Follow(progress=progress, cancelled=cancelled)
    seen = _look(text, model, tokenizer, target, baseline, context, reading, max_tokens, follow)
    parts = units(text, seen.pieces, grain)
    owner = parts.owner[seen.start : seen.end] - parts.owner[seen.start]  # (m,)
    count = int(owner[-1]) + 1
    follow.rows = (
        follow.done + chosen.rows(count) + 3 + faithfulness.rows(len(np.unique(owner[seen.probe.free])), orders)
    )

    found = scores(chosen, seen.probe, owner)
    shown, hidden = seen.probe.log_odds(np.array([[True], [False]]).repeat(len(owner), axis=1))
    probability = seen.probe.probabilities(np.ones((1, len(owner)), dtype=bool))[0]
    measured, trusted = None, None
    if orders and seen.probe.free.any():
        measured, trusted = faithfulness.measure(seen.probe, owner, found, orders=orders)
    every = np.zeros(len(parts.places))
    every[parts.owner[seen.start] :][:count] = found
    seconds = time.perf_counter() - began
    return Explanation(
        model=name,
        target=str(seen.target),
        method=chosen.name,
        grain=grain,
        attributions=tuple(
            Attribution(start=start, end=end, score=score)
            for (start, end), score in zip(parts.places.tolist(), every.tolist(), strict=True)
        ),
        log_odds=shown,
        probability=probability,
        convergence_delta=found.sum() - (shown - hidden) if chosen.complete else None,
        faithfulness=measured,
        trusted=trusted,
        checks=faithfulness.check(chosen, seen.probe, owner, found) if checks else None,
        baseline=seen.baseline,
        context=context,
        options=chosen.model_dump(exclude={"name"}),
        coverage=_coverage(text, seen),
        cost=Cost(latency_ms=1000 * seconds, tokens_per_second=follow.done * len(owner) / seconds),
    )


def explain_stream(text: str, model: Any, tokenizer: Any, target: Target | str, **how: Any) -> Iterator[Explanation]:
    """First which sentences count, by hiding each in turn, without faithfulness; then what explain_text answers.

    The options are explain_text's; progress starts anew for the second answer. An answer that would be the first one
    again but for its faithfulness comes once.
    """
    chosen = method(how.get("method_name", METHOD), how.get("options"))
    if (chosen.name, how.get("grain") or chosen.grain) != COARSE:
        coarse = {"method_name": COARSE[0], "grain": COARSE[1], "options": None, "orders": 0, "checks": False}
        yield explain_text(text, model, tokenizer, target, **how | coarse)
    yield explain_text(text, model, tokenizer, target, **how)


def ablate(
    text: str,
    model: Any,
    tokenizer: Any,
    target: Target | str,
    places: Sequence[tuple[int, int]],
    *,
    baseline: str | None = None,
    context: bool = True,
    reading: str = "windows",
    max_tokens: int | None = None,
) -> Ablation:
    """The target's probability with everything, and with every piece hidden that touches one of [start, end) places.

    context: the target's own words stay. Raises what explain_text raises.
    """
    seen = _look(text, model, tokenizer, target, baseline, context, reading, max_tokens, None)
    starts, ends = (each[seen.start : seen.end] for each in (seen.pieces.starts, seen.pieces.ends))
    touched = np.zeros(len(starts), dtype=bool)
    for start, end in places:
        touched |= (starts < end) & (ends > start)
    before, after = seen.probe.probabilities(np.stack([np.ones_like(touched), ~touched]))
    return Ablation(target=str(seen.target), hidden=tuple(places), before=before, after=after)


class _Look(NamedTuple):
    """A probe of the window that holds the target: pieces [start, end) of all the pieces of the text."""

    target: Target
    pieces: Pieces
    start: int
    end: int
    probe: "Probe"
    baseline: str


def _look(
    text: str,
    model: Any,
    tokenizer: Any,
    target: Target | str,
    baseline: str | None,
    context: bool,
    reading: str,
    max_tokens: int | None,
    follow: "Follow | None",
) -> _Look:
    from trainer import inference
    from trainer.inference.target_score import Probe, Score

    target = parse(target) if isinstance(target, str) else target
    columns = target.columns(names := require_task(target, model))
    target.check(text)
    baseline, baseline_id = _baseline(baseline, tokenizer)
    pieces, room = cut(text, tokenizer), inference.window_size(model, tokenizer, max_tokens, reading=reading)
    read = pieces.first(inference.readable(len(pieces), reading, room))
    if not len(read):
        raise BadData("The model reads no word piece in this note.", next_step="Choose another note.")
    words = read.align(words_in(text))
    places, around = target.places(words), frame(tokenizer)
    score = Score.of(columns, len(names), independent=inference.is_multi_label(model))

    def open_window(start: int, end: int) -> _Look:
        free = np.ones(end - start, dtype=bool)
        if context:
            owner = units(text, read, "word").owner
            free = ~np.isin(owner[start:end], owner[places])
        probe = Probe(
            model,
            [*around.before, *read.ids[start:end].tolist(), *around.after],
            before=len(around.before),
            free=free,
            places=[place - start + len(around.before) for place in places] or [0],
            score=score,
            baseline_id=baseline_id,
            follow=follow,
        )
        return _Look(target, pieces, start, end, probe, baseline)

    table = inference.windows(len(read), room)
    return open_window(*_window(table, places)) if places else _likeliest(open_window, table)


def _window(table: np.ndarray, places: Sequence[int]) -> tuple[int, int]:
    """The window that inference keeps the target's first word in, or else one that shows all its words."""
    start, end, first, last = table.T
    whole = (start <= places[0]) & (places[-1] < end)
    kept = whole & (first <= places[0]) & (places[0] < last)
    if not whole.any():
        found = (
            f"its words are {places[-1] - places[0] + 1:,} word pieces apart; a window has {int((end - start)[0]):,}"
        )
        raise BadSpec([("target", found)], next_step="Ask for a shorter span, or for more max_tokens.")
    row = np.flatnonzero(kept if kept.any() else whole)[0]
    return int(start[row]), int(end[row])


def _likeliest(open_window: Callable[[int, int], _Look], table: np.ndarray) -> _Look:
    """Of a label of the whole text: the window that says it most."""
    looks = [open_window(int(start), int(end)) for start, end, *_ in table]
    if len(looks) == 1:
        return looks[0]
    return max(looks, key=lambda look: look.probe.probabilities(np.ones((1, look.end - look.start), dtype=bool))[0])


def _baseline(wanted: str | None, tokenizer: Any) -> tuple[str, int]:
    known = {"mask": tokenizer.mask_token_id, "pad": tokenizer.pad_token_id}
    there = {name: token for name, token in known.items() if token is not None}
    if (wanted or next(iter(there), None)) not in there:
        raise UnknownName("baseline of this tokenizer", wanted, there)
    name = wanted or next(iter(there))
    return name, there[name]


def _coverage(text: str, seen: _Look) -> Coverage:
    pieces, start, end = seen.pieces, seen.start, seen.end
    before = ((0, int(pieces.starts[start])),) if start else ()
    after = ((int(pieces.starts[end]), len(text)),) if end < len(pieces) else ()
    return Coverage(tokens=len(pieces), tokens_read=end - start, windows=1, unread=before + after)
