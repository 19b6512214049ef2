"""Why a model gave an answer: a note, a model and a target give an Explanation, and how far to rely on it.

    explain(note, model, target) -> Explanation            explain_text is the same with a loaded model
    explain_stream(...) -> a coarse answer, then the fine one
    ablate(...) -> the target's probability with some places of the note hidden

If the note is longer than the model's window, the window that the target is read in is explained; parts outside it have
the score 0 and are in `coverage.unread`. So are those outside the passage in which a relation is read, whose marks are
never hidden. Everything here imports without torch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer import zoo
from trainer.datasets.rows.candidates import fit
from trainer.datasets.rows.pieces import Pieces, cut
from trainer.datasets.rows.questions import find_pieces, holding
from trainer.datasets.rows.words import words_in
from trainer.errors import BadData, BadSpec, UnknownName
from trainer.prediction import Cost, Coverage, Value
from trainer.resolved import ResolvedModel
from trainer.tasks import needs_hypothesis, needs_question
from workbench.explain import faithfulness, targets
from workbench.explain.agreement import Ablation
from workbench.explain.explanation import Attribution, Explanation
from workbench.explain.grains import GRAINS, find_units
from workbench.explain.methods import METHODS, make_method, unit_scores
from workbench.explain.options import METHOD, ExplainOptions
from workbench.explain.targets import (
    AnswerTarget,
    RelationTarget,
    SentenceTarget,
    Target,
    ValueTarget,
    as_asked,
    parse,
    require_task,
)
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
DEFAULT_OPTIONS = ExplainOptions()
COARSE = {"method": "feature_ablation", "grain": "sentence", "method_options": {}, "orders": 0, "checks": False}


def explain(
    note: Note,
    model: str | ResolvedModel,
    target: Target | str,
    options: ExplainOptions = DEFAULT_OPTIONS,
    *,
    name: str = "",
) -> Explanation:
    """Explain why a model gives `target` for a note, in this process, which imports torch for it.

    `name` is what the explanation calls its model, by default the reference. Raises what explain_text raises.
    """
    resolved = zoo.resolve(model) if isinstance(model, str) else model
    target = parse(target) if isinstance(target, str) else target
    make_method(options.method, options.method_options)  # wrong options are reported before a model is loaded
    loaded = CACHE.load(resolved)
    return explain_text(
        note.text,
        *loaded,
        target,
        options,
        hypothesis=note.hypothesis,
        question=note.question,
        name=name or resolved.reference,
    )


def explain_text(
    text: str,
    model: Any,
    tokenizer: Any,
    target: Target | str,
    options: ExplainOptions = DEFAULT_OPTIONS,
    *,
    name: str,
    hypothesis: str = "",
    question: str = "",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Explanation:
    """Explain one target with a loaded model.

    hypothesis: for a model of pairs, and question for one that answers it: the model always sees all of either, and
    only parts of the text get scores. progress is called with (rows read, total rows) after each batch, cancelled
    before each group of them. Raises BadSpec, BadData, UnknownName, Unavailable and Cancelled; messages hold offsets,
    never text.
    """
    from trainer.inference.target_score import Progress

    began = time.perf_counter()
    chosen = make_method(options.method, options.method_options)
    grain = options.grain or chosen.grain
    follow = Progress(progress=progress, cancelled=cancelled)
    view = _open_view(text, (hypothesis, question), model, tokenizer, target, options, follow)
    parts = find_units(view.passage.text, view.pieces, grain)
    owner = parts.owner[view.start : view.end] - parts.owner[view.start]  # (m,)
    count = int(owner[-1]) + 1
    compared = faithfulness.count_rows(len(np.unique(owner[view.probe.free])), options.orders)
    follow.rows = follow.done + chosen.rows(count) + 3 + compared

    scores = unit_scores(chosen, view.probe, owner)
    shown, hidden = view.probe.log_odds(np.array([[True], [False]]).repeat(len(owner), axis=1))
    probability = view.probe.probabilities(np.ones((1, len(owner)), dtype=bool))[0]
    measured, trusted = None, None
    if options.orders and view.probe.free.any():
        measured, trusted = faithfulness.measure(view.probe, owner, scores, orders=options.orders)
    padded = np.zeros(len(parts.places))  # (units,), 0 outside the window
    padded[parts.owner[view.start] :][:count] = scores
    seconds = time.perf_counter() - began
    return Explanation(
        model=name,
        target=str(view.target),
        method=chosen.name,
        grain=grain,
        attributions=tuple(
            Attribution(start=start, end=end, score=score)
            for (start, end), score in zip(view.passage.places(parts.places), padded.tolist(), strict=True)
            if start < end
        ),
        log_odds=shown,
        probability=probability,
        value=_value(view.target, model, probability),
        convergence_delta=scores.sum() - (shown - hidden) if chosen.complete else None,
        faithfulness=measured,
        trusted=trusted,
        checks=faithfulness.check(chosen, view.probe, owner, scores) if options.checks else None,
        baseline=view.baseline,
        context=options.context,
        options=chosen.model_dump(exclude={"name"}),
        coverage=_coverage(text, view),
        cost=Cost(latency_ms=1000 * seconds, tokens_per_second=follow.done * len(owner) / seconds),
    )


def explain_stream(
    text: str, model: Any, tokenizer: Any, target: Target | str, options: ExplainOptions = DEFAULT_OPTIONS, **how: Any
) -> Iterator[Explanation]:
    """First a coarse answer, hiding each sentence in turn without measuring faithfulness; then that of explain_text.

    how: the name, hypothesis, question, progress and cancelled of explain_text; progress starts again for the second
    answer. Where that has the same method and grain as the coarse one, only the second answer comes.
    """
    chosen = make_method(options.method, options.method_options)
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
    *,
    hypothesis: str = "",
    question: str = "",
) -> Ablation:
    """The target's probability with the whole note, and with every piece hidden that touches one of the places.

    places: [start, end) in code points. Only the options for reading and hiding text are used. Raises what explain_text
    raises.
    """
    view = _open_view(text, (hypothesis, question), model, tokenizer, target, options, None)
    pieces = np.stack([view.pieces.starts, view.pieces.ends], axis=1)[view.start : view.end]
    starts, ends = np.array(view.passage.places(pieces)).T
    touched = np.zeros(len(starts), dtype=bool)
    for start, end in places:
        touched |= (starts < end) & (ends > start) & (starts < ends)
    before, after = view.probe.probabilities(np.stack([np.ones_like(touched), ~touched]))
    first, second = (_value(view.target, model, share) for share in (before, after))
    return Ablation(
        target=str(view.target),
        hidden=tuple(places),
        before=before,
        after=after,
        values=(first, second) if first and second else None,
    )


class _Passage(NamedTuple):
    """The text that the model reads: the note, or the passage of a relation with its marks.

    origins: (characters, 2) [start, end) in the note of what each of its characters stands for; None for the note.
    read: the part of the note that it is. marks: the pieces that are marks, (pieces,); mentions: those of both
    mentions too.
    """

    text: str
    pieces: Pieces
    read: tuple[int, int]
    origins: np.ndarray | None = None
    marks: np.ndarray | None = None
    mentions: np.ndarray | None = None

    def places(self, places: np.ndarray) -> list[tuple[int, int]]:
        """[start, end) of these places, (places, 2), in the note; empty for what consists of marks alone."""
        if self.origins is None:
            return [(start, end) for start, end in places.tolist()]
        return [_origin(self.origins[start:end]) for start, end in places.tolist()]


def _origin(origins: np.ndarray) -> tuple[int, int]:
    """The part of the note that some characters of a passage, (characters, 2), stand for."""
    real = origins[origins[:, 0] < origins[:, 1]]
    return (int(real[:, 0].min()), int(real[:, 1].max())) if len(real) else (0, 0)


class _View(NamedTuple):
    """A probe of the window that holds the target: pieces [start, end) of all the pieces of the text."""

    target: Target
    passage: _Passage
    pieces: Pieces
    start: int
    end: int
    probe: "Probe"
    baseline: str


def _open_view(
    text: str,
    others: tuple[str, str],
    model: Any,
    tokenizer: Any,
    target: Target | str,
    options: ExplainOptions,
    follow: "Progress | None",
) -> _View:
    """others: the hypothesis and the question; each is used where the model needs it."""
    from trainer import inference
    from trainer.inference.target_score import Probe, Score

    target = as_asked(parse(target) if isinstance(target, str) else target, model)
    columns = target.columns(names := require_task(target, model))
    target.check(text)
    baseline, baseline_id = _baseline(options.baseline, tokenizer)
    task = inference.task(model)
    hypotheses, questions = (
        [others[0]] if needs_hypothesis(task) else None,
        [others[1]] if needs_question(task) else None,
    )
    [around] = inference.frames_of(model, tokenizer, hypotheses, 1, questions)
    longest = inference.longest_window(model, tokenizer, options.max_tokens, reading=options.reading)
    passage = _open_passage(text, model, tokenizer, target, longest - around.size)
    pieces = passage.pieces
    room = around.room(len(pieces), longest)
    read = pieces.first(inference.readable_count(len(pieces), options.reading, room))
    if not len(read):
        raise BadData("The model reads no word piece in this note.", next_step="Choose another note.")
    words = read.align(words_in(passage.text))
    answer = _answer_pieces(target, read) if isinstance(target, AnswerTarget) else None
    if isinstance(target, SentenceTarget):
        places = target.pieces(passage.text, read)
    else:
        places = list(range(answer[0], answer[1] + 1)) if answer else target.places(words)
    independent = inference.is_multi_label(model)

    def score_of_target() -> Score:
        if isinstance(target, ValueTarget):
            return Score.of_value()
        return Score.of(columns, target.competing(names), independent=independent, pooled=target.pooled)

    def open_window(start: int, end: int) -> _View:
        before = len(around.before)
        scored, score = [place - start + before for place in places] or [0], None
        if answer:  # among the first token and all of the text
            scored = [0, *range(before, before + end - start)]
            score = Score.of_answer(*(1 + piece - start for piece in answer))
        free = np.ones(end - start, dtype=bool)
        if options.context:
            owner = find_units(passage.text, read, "word").owner
            free = ~np.isin(owner[start:end], owner[places])
        if passage.marks is not None and passage.mentions is not None:
            free &= ~(passage.mentions if options.context else passage.marks)[start:end]
        probe = Probe(
            model,
            [*around.before, *read.ids[start:end].tolist(), *around.after],
            before=before,
            free=free,
            places=scored,
            score=score or score_of_target(),
            baseline_id=baseline_id,
            types=around.all_types(end - start) if around.types or around.inner_type else (),
            question=around.question,
            progress=follow,
        )
        return _View(target, passage, pieces, start, end, probe, baseline)

    if answer:
        table = inference.windows(len(read), room, inference.question_reading(model).doc_stride)
        _window(table, places)  # an error where no window holds it
        return _likeliest(open_window, table[holding(table, answer)])
    table = inference.plan_windows(model, passage.text, read, room)
    return open_window(*_window(table, places)) if places else _likeliest(open_window, table)


def _value(target: Target, model: Any, share: float) -> Value | None:
    """The value that is a share of a model's scale, if that is the target."""
    from trainer import inference

    return Value.at(share, inference.value_range(model)) if isinstance(target, ValueTarget) else None


def _answer_pieces(target: AnswerTarget, read: Pieces) -> tuple[int, int]:
    """The first and the last piece of an answer. BadSpec where the model reads none there."""
    pieces = find_pieces(read, (target.start, target.end))
    if pieces is None:
        problem = f"found {target.start}:{target.end}, where the model reads no word"
        raise BadSpec([("target", problem)], next_step=targets.LIST_THEM)
    return pieces


def _open_passage(text: str, model: Any, tokenizer: Any, target: Target, room: int) -> _Passage:
    """What the model reads for a target: the note, or of a relation its passage, as inference reads it."""
    from trainer import inference

    if not isinstance(target, RelationTarget):
        return _Passage(text, cut(text, tokenizer), (0, len(text)))
    pair, marked = target.passage(text, inference.pair_reading(model))
    whole = cut(marked.text, tokenizer)
    places = fit(whole, marked, room)
    pieces = Pieces(*(column[places] for column in (whole.ids, whole.starts, whole.ends, whole.continues)))
    spans = list(zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True))
    marks = np.array([_origin(marked.origins[start:end]) == (0, 0) for start, end in spans])
    inside = [
        (pieces.starts < end) & (pieces.ends > start) for start, end in marked.mentions
    ]  # the marks are part of both
    return _Passage(marked.text, pieces, (pair.start, pair.end), marked.origins, marks, inside[0] | inside[1])


def _window(table: np.ndarray, places: Sequence[int]) -> tuple[int, int]:
    """The window whose answer inference uses for the target's first word, or else one with all of its words."""
    start, end, first, last = table.T
    whole = (start <= places[0]) & (places[-1] < end)
    used = whole & (first <= places[0]) & (places[0] < last)
    if not whole.any():
        problem = (
            f"its words are {places[-1] - places[0] + 1:,} word pieces apart; a window has {int((end - start)[0]):,}"
        )
        raise BadSpec([("target", problem)], next_step="Ask for a shorter span, or for more max_tokens.")
    row = np.flatnonzero(used if used.any() else whole)[0]
    return int(start[row]), int(end[row])


def _likeliest(open_window: Callable[[int, int], _View], table: np.ndarray) -> _View:
    """The window with the highest probability, for a label of the whole text or an answer."""
    views = [open_window(int(start), int(end)) for start, end, *_ in table]
    if len(views) == 1:
        return views[0]
    return max(views, key=lambda view: view.probe.probabilities(np.ones((1, view.end - view.start), dtype=bool))[0])


def _baseline(name: str | None, tokenizer: Any) -> tuple[str, int]:
    """The baseline token, by default the first that the tokenizer has: its name and id."""
    ids = {"mask": tokenizer.mask_token_id, "pad": tokenizer.pad_token_id}
    available = {name: token for name, token in ids.items() if token is not None}
    chosen = name or next(iter(available), None)
    if chosen is None or chosen not in available:
        raise UnknownName("baseline of this tokenizer", name, available)
    return chosen, available[chosen]


def _coverage(text: str, view: _View) -> Coverage:
    pieces, start, end = view.pieces, view.start, view.end
    if view.passage.origins is not None:
        first, last = view.passage.read
        unread = tuple(part for part in ((0, first), (last, len(text))) if part[0] < part[1])
        return Coverage(tokens=len(pieces), tokens_read=end - start, windows=1, unread=unread)
    before = ((0, int(pieces.starts[start])),) if start else ()
    after = ((int(pieces.starts[end]), len(text)),) if end < len(pieces) else ()
    return Coverage(tokens=len(pieces), tokens_read=end - start, windows=1, unread=before + after)
