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
from workbench.explain.options import METHOD, ExplainOptions
from workbench.explain.targets import Target, parse, require_task
from workbench.model_cache import CACHE
from workbench.note import Note

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe, Progress

__all__ = [
    "GRAINS",
    "METHOD",
    "METHODS",
    "ExplainOptions",
    "ablate",
    "explain",
    "explain_stream",
    "explain_text",
    "targets",
]
USUAL = ExplainOptions()
COARSE = {"method": "feature_ablation", "grain": "sentence", "method_options": {}, "orders": 0, "checks": False}


def explain(
    note: Note, model: str | ResolvedModel, target: Target | str, options: ExplainOptions = USUAL, *, name: str = ""
) -> Explanation:
    """Why a model says `target` of a note, computed in this process (which imports torch here).

    `name` is how the explanation names its model; by default the reference. Raises what explain_text raises.
    """
    resolved = zoo.resolve(model) if isinstance(model, str) else model
    target = parse(target) if isinstance(target, str) else target
    method(options.method, options.method_options)  # what is wrong is said before a model is loaded
    return explain_text(note.text, *CACHE.load(resolved), target, options, name=name or resolved.reference)


def explain_text(
    text: str,
    model: Any,
    tokenizer: Any,
    target: Target | str,
    options: ExplainOptions = USUAL,
    *,
    name: str,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Explanation:
    """Explain one target with a loaded model.

    progress gets (rows read, rows in all) after each batch, cancelled is asked before each. Raises BadSpec, BadData,
    UnknownName, Unavailable and Cancelled; messages hold offsets alone.
    """
    from trainer.inference.target_score import Progress

    began = time.perf_counter()
    chosen = method(options.method, options.method_options)
    grain = options.grain or chosen.grain
    follow = Progress(progress=progress, cancelled=cancelled)
    seen = _look(text, model, tokenizer, target, options, follow)
    parts = units(text, seen.pieces, grain)
    owner = parts.owner[seen.start : seen.end] - parts.owner[seen.start]  # (m,)
    count = int(owner[-1]) + 1
    compared = faithfulness.rows(len(np.unique(owner[seen.probe.free])), options.orders)
    follow.rows = follow.done + chosen.rows(count) + 3 + compared

    found = scores(chosen, seen.probe, owner)
    shown, hidden = seen.probe.log_odds(np.array([[True], [False]]).repeat(len(owner), axis=1))
    probability = seen.probe.probabilities(np.ones((1, len(owner)), dtype=bool))[0]
    measured, trusted = None, None
    if options.orders and seen.probe.free.any():
        measured, trusted = faithfulness.measure(seen.probe, owner, found, orders=options.orders)
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
        checks=faithfulness.check(chosen, seen.probe, owner, found) if options.checks else None,
        baseline=seen.baseline,
        context=options.context,
        options=chosen.model_dump(exclude={"name"}),
        coverage=_coverage(text, seen),
        cost=Cost(latency_ms=1000 * seconds, tokens_per_second=follow.done * len(owner) / seconds),
    )


def explain_stream(
    text: str, model: Any, tokenizer: Any, target: Target | str, options: ExplainOptions = USUAL, **how: Any
) -> Iterator[Explanation]:
    """First which sentences count, by hiding each in turn, without faithfulness; then what explain_text answers.

    how: the name, progress and cancelled of explain_text; progress starts anew for the second answer. An answer that
    would be the first one again but for its faithfulness comes once.
    """
    chosen = method(options.method, options.method_options)
    if (chosen.name, options.grain or chosen.grain) != (COARSE["method"], COARSE["grain"]):
        yield explain_text(text, model, tokenizer, target, options.model_copy(update=COARSE), **how)
    yield explain_text(text, model, tokenizer, target, options, **how)


def ablate(
    text: str,
    model: Any,
    tokenizer: Any,
    target: Target | str,
    places: Sequence[tuple[int, int]],
    options: ExplainOptions = ExplainOptions(context=True),  # noqa: B008 (it is frozen)
) -> Ablation:
    """The target's probability with everything, and with every piece hidden that touches one of [start, end) places.

    Of the options, those that say how the text is read and hidden count. Raises what explain_text raises.
    """
    seen = _look(text, model, tokenizer, target, options, None)
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
    options: ExplainOptions,
    follow: "Progress | None",
) -> _Look:
    from trainer import inference
    from trainer.inference.target_score import Probe, Score

    target = parse(target) if isinstance(target, str) else target
    columns = target.columns(names := require_task(target, model))
    target.check(text)
    baseline, baseline_id = _baseline(options.baseline, tokenizer)
    room = inference.window_size(model, tokenizer, options.max_tokens, reading=options.reading)
    pieces = cut(text, tokenizer)
    read = pieces.first(inference.readable_count(len(pieces), options.reading, room))
    if not len(read):
        raise BadData("The model reads no word piece in this note.", next_step="Choose another note.")
    words = read.align(words_in(text))
    places, around = target.places(words), frame(tokenizer)
    score = Score.of(columns, len(names), independent=inference.is_multi_label(model))

    def open_window(start: int, end: int) -> _Look:
        free = np.ones(end - start, dtype=bool)
        if options.context:
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
            progress=follow,
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
