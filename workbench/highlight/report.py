"""A comparison as one HTML file to keep or print, without scripts or outside resources.

Without the note's text a disagreement is a pair of offsets. With it, the text stands at the end unchanged, with the
places where models differ marked.
"""

from collections.abc import Iterator
from itertools import pairwise

from workbench.compare import Disagreement, group_by_kind
from workbench.compare.costs import Weights
from workbench.compare.report import Report, versions
from workbench.highlight.disagreements import agreement_notes, excerpt, group_title, vote_chip
from workbench.highlight.markup import STYLE, Html, colours, concat, letter, style, table
from workbench.highlight.panes import labels_of, rows
from workbench.highlight.tables import NONE, agreement_table, cost_table

LISTED = 1_000  # disagreements; nobody reads more, and browsers take minutes to lay out many more in columns
_HEAD = Html(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Comparison of models on one note</title>'
    '<meta name="viewport" content="width=device-width">'
    """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
)
_STYLE = style("report.css")
_WARNING = "For research, not for clinical decisions. Scores are a model's own and not calibrated."


def report_page(report: Report) -> Html:
    """The whole file."""
    predictions = report.comparison.predictions
    arms = list(report.titles)
    parts = [
        Html("<h1>Comparison of models on one note</h1>"),
        _about(report),
        _models(report, arms),
        cost_table(predictions, report.weights, arms),
        agreement_table(predictions, arms),
        _no_agreement(report),
        agreement_notes(report.comparison),
        Html("<h2>Disagreements</h2>"),
        concat(_disagreements(report, arms)) or Html("<p>None.</p>"),
        _note(report) if report.with_text else "",
        Html('<p class="sr-about sr-foot">{} {}</p>').format(_versions(), _WARNING),
    ]
    body = Html('<body><div class="sr">{}</div></body></html>\n').format(concat(parts))
    return concat([_HEAD, STYLE, _STYLE, Html("</head>"), body])


def _about(report: Report) -> Html:
    facts = [f"{report.made:%d %B %Y, %H:%M}", f"a note of {len(report.note.text):,} characters"]
    if report.context:
        facts.append(f"only its first {report.context:,} tokens")
    if report.filter.labels:
        facts.append(f"only labels {', '.join(report.filter.labels)}")
    if report.filter.min_score:
        facts.append(f"only scores of at least {report.filter.min_score:.0%}")
    text = "with the note's text" if report.with_text else "without the note's text: places are offsets"
    return Html('<p class="sr-about">{}.</p>').format("; ".join([*facts, text]))


def _no_agreement(report: Report) -> Html:
    reason = report.comparison.no_agreement
    return Html("<p>{}</p>").format(reason) if reason else Html()


def _models(report: Report, arms: list[str]) -> Html:
    rows = [
        [Html("{} {}").format(letter(number), report.titles[arm]), arm, _hash(weights)]
        for number, (arm, weights) in enumerate(zip(arms, report.weights, strict=True))
    ]
    return table("Models", ["", "Reference", "SHA-256 of the weights"], rows)


def _hash(weights: Weights) -> str:
    return NONE if weights.sha256 is None else Html('<span class="sr-hash">{}</span>').format(weights.sha256)


def _disagreements(report: Report, arms: list[str]) -> Iterator[Html]:
    slots = colours(label for prediction in report.comparison.predictions for label in labels_of(prediction))
    disagreements, room = report.comparison.disagreements, LISTED
    item = Html("<li>{} {}</li>")
    for group in group_by_kind(report.comparison):
        listed = [disagreements[index] for index in group.indices[:room]]
        room -= len(listed)
        items = concat(item.format(_place(report, each), _votes(each, arms, slots)) for each in listed)
        title = group_title(group, arms)
        yield Html('<h3 class="sr-group">{} <b>{:,}</b></h3>').format(title, len(group.indices))
        yield Html('<ol class="sr-list">{}</ol>').format(items)
    if len(disagreements) > LISTED:
        yield Html('<p class="sr-more">Only the first {:,} are listed; the JSON export has all of them.</p>').format(
            LISTED
        )


def _place(report: Report, disagreement: Disagreement) -> Html:
    if disagreement.kind == "document":
        return Html()
    start, end = disagreement.place
    words = Html(" <bdi>{}</bdi>").format(excerpt(report.note.text, start, end)) if report.with_text else ""
    return Html("{}–{}{}").format(start, end, words)


def _votes(disagreement: Disagreement, arms: list[str], slots: dict[str, str]) -> Html:
    vote = Html('<span class="sr-vote">{}{}</span>')
    return Html(" ").join(
        vote.format(letter(arms.index(arm)), vote_chip(arm, disagreement, slots)) for arm in disagreement.votes
    )


def _note(report: Report) -> Html:
    """The text in its rows, with the regions of disagreement marked; they are disjoint and in order."""
    return Html('<h2>The note</h2><div class="sr-note">{}</div>').format(concat(_rows(report)))


def _rows(report: Report) -> Iterator[Html]:
    text, marks, row_ends = report.note.text, list(_marks(report)), {end for _, end in rows(report.note.text)}
    starts, ends = {start for start, _ in marks}, {end for _, end in marks}
    row, marked = Html(), False
    for start, end in pairwise(sorted({0, *row_ends, *starts, *ends})):
        marked = start in starts or (marked and start not in ends)
        row += Html("<mark>{}</mark>" if marked else "{}").format(text[start:end])
        if end in row_ends:
            yield Html('<div dir="auto">{}</div>').format(row)
            row = Html()


def _marks(report: Report) -> Iterator[tuple[int, int]]:
    for disagreement in report.comparison.disagreements:
        if disagreement.kind != "document":
            start, end = disagreement.place
            start, end = max(start, 0), min(end, len(report.note.text))
            if start < end:
                yield start, end


def _versions() -> str:
    return f"{', '.join(f'{package} {number}' for package, number in versions().items())}."
