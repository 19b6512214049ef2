"""The table of relations under the panes: each once, with links to both ends, and the score that each model gives."""

from collections.abc import Sequence
from itertools import islice

from trainer.prediction import Prediction, Span
from workbench.compare.relations import RelatedPair, in_words, list_relations
from workbench.highlight.arcs import relation_arcs
from workbench.highlight.findings import EXCERPT, NO_SCORE, finding_anchor, first_finders
from workbench.highlight.markup import Html, concat, letter, table
from workbench.highlight.panes import Pane
from workbench.predict import percent

LISTED = 200  # relations in the table; the JSON export has all


def relations_table(text: str, panes: Sequence[Pane]) -> Html:
    """The relations of the panes whose model was asked for them; empty where none was."""
    asked = [
        (pane.prediction, number)
        for number, pane in enumerate(panes)
        if pane.prediction and pane.prediction.relations is not None
    ]
    if not asked:
        return Html()
    predictions, numbers = [each for each, _ in asked], [number for _, number in asked]
    pairs = list_relations(text, predictions)
    if not pairs:
        return Html('<div class="sr"><p class="sr-figure"><b>No relations</b> between these findings.</p></div>')
    finders = first_finders(predictions, numbers)
    names = [letter(number) for number in numbers] if len(panes) > 1 else [Html("Score")]
    rows = (_row(each, finders) for each in islice(pairs, LISTED))
    picture = table("Relations", ["Findings", "Relation", "Times", *names], rows)
    rest = len(pairs) - LISTED
    more = Html('<p class="sr-more">{:,} more are in the export.</p>').format(rest) if rest > 0 else Html()
    drawn = concat(_arcs(text, prediction, len(panes) > 1, number) for prediction, number in asked)
    return Html('<div class="sr"><div class="sr-wide" tabindex="0">{}</div>{}{}</div>').format(picture, more, drawn)


def relation_row(pair: RelatedPair, *, with_text: bool) -> list[str]:
    """A row of the printed report: both ends, by their words or their places, relation, times and scores."""
    ends = zip((pair.head, pair.tail), pair.ends, strict=True)
    names = [words or "(no words)" if with_text else f"{end.label} {end.start}–{end.end}" for words, end in ends]
    both = Html(" → ").join(Html("<bdi>{}</bdi>").format(name) for name in names)
    return [both, *_figures(pair)]


def _figures(pair: RelatedPair) -> list[str]:
    scores = [NO_SCORE if score is None else percent(score) for score in pair.scores]
    return [Html("<bdi>{}</bdi>").format(in_words(pair.label)), f"{pair.times:,}", *scores]


def _arcs(text: str, prediction: Prediction, several: bool, number: int) -> Html:
    """The relations of a model as arcs, behind a line to open; empty where none can be drawn."""
    picture = relation_arcs(text, prediction)
    if not picture:
        return picture
    of = Html(" of {}").format(letter(number)) if several else ""
    return Html("<details><summary>Relations{} as arcs</summary>{}</details>").format(of, picture)


def _row(pair: RelatedPair, finders: dict[tuple[int, int, str], int]) -> list[str]:
    head, tail = (_end(words, span, finders) for words, span in zip((pair.head, pair.tail), pair.ends, strict=True))
    both = Html("{} → {}").format(head, tail)
    return [both, *_figures(pair)]


def _end(words: str, span: Span, finders: dict[tuple[int, int, str], int]) -> Html:
    shown = words if len(words) <= EXCERPT else f"{words[:EXCERPT]}…"
    anchor = finding_anchor(span.start, finders[span.start, span.end, span.label])
    return Html('<a href="#{}"><bdi>{}</bdi></a> <small>{}</small>').format(anchor, shown or "(no words)", span.label)
