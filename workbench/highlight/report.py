"""A comparison as one HTML page of its own, to keep or to print: no script, nothing from elsewhere.

Without the note's text a disagreement is a pair of offsets. With it, the text stands at the end exactly as it was
given, with the places where models differ marked.
"""

from collections.abc import Iterator
from itertools import pairwise

from workbench.compare import Disagreement, grouped
from workbench.compare.costs import Weights
from workbench.compare.report import Report, versions
from workbench.highlight.disagreements import excerpt, letters, meanings, nothing
from workbench.highlight.markup import STYLE, Html, chip, escape, letter, slots_of, style, table
from workbench.highlight.panes import labels_of, rows
from workbench.highlight.tables import NONE, agreement, costs

LISTED = 1_000  # disagreements; no one reads more, and browsers take minutes to lay out columns of many more
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Comparison of models on one note</title>'
    '<meta name="viewport" content="width=device-width">'
    """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
)
_STYLE = style("report.css")
_WARNING = "For research, not for clinical decisions. Scores are a model's own and not calibrated."


def document(report: Report) -> Html:
    """The whole file."""
    found = report.comparison.predictions
    arms = list(report.titles)
    parts = [
        f"<h1>Comparison of models on one note</h1>{_about(report)}",
        _models(report, arms),
        costs(found, report.weights, arms),
        f"{agreement(found, arms)}{_no_agreement(report)}{meanings(report.comparison)}",
        f"<h2>Disagreements</h2>{''.join(_disagreements(report, arms)) or '<p>None.</p>'}",
        _note(report) if report.with_text else "",
        f'<p class="sr-about sr-foot">{_versions()} {_WARNING}</p>',
    ]
    return Html(f'{_HEAD}{STYLE}{_STYLE}</head><body><div class="sr">{"".join(parts)}</div></body></html>\n')


def _about(report: Report) -> str:
    said = [f"{report.made:%d %B %Y, %H:%M}", f"a note of {len(report.note.text):,} characters"]
    if report.context:
        said.append(f"its first {report.context:,} tokens")
    if report.kept.labels:
        said.append(f"labels {escape(', '.join(report.kept.labels))} only")
    if report.kept.least:
        said.append(f"scores from {report.kept.least:.0%} on")
    text = "the note's text is included" if report.with_text else "without the note's text; places are offsets"
    return f'<p class="sr-about">{"; ".join([*said, text])}.</p>'


def _no_agreement(report: Report) -> str:
    why = report.comparison.no_agreement
    return f"<p>{why}</p>" if why else ""


def _models(report: Report, arms: list[str]) -> str:
    rows = [
        [f"{letter(number)} {escape(report.titles[arm])}", escape(arm), _hash(weights)]
        for number, (arm, weights) in enumerate(zip(arms, report.weights, strict=True))
    ]
    return table("Models", ["", "Reference", "SHA-256 of the weights"], rows)


def _hash(weights: Weights) -> str:
    return NONE if weights.sha256 is None else f'<span class="sr-hash">{weights.sha256}</span>'


def _disagreements(report: Report, arms: list[str]) -> Iterator[str]:
    slots = slots_of(label for found in report.comparison.predictions for label in labels_of(found))
    found, room = report.comparison.disagreements, LISTED
    for group in grouped(report.comparison):
        regions = [found[number] for number in group.items[:room]]
        room -= len(regions)
        items = "".join(f"<li>{_place(report, region)} {_votes(region, arms, slots)}</li>" for region in regions)
        head = f'<h3 class="sr-group">{letters(group, arms)} <b>{len(group.items):,}</b></h3>'
        yield f'{head}<ol class="sr-list">{items}</ol>'
    if len(found) > LISTED:
        yield f'<p class="sr-more">The first {LISTED:,} are listed; the export as JSON has all of them.</p>'


def _place(report: Report, region: Disagreement) -> str:
    if region.start is None:
        return ""
    words = f" <bdi>{excerpt(report.note.text, region)}</bdi>" if report.with_text else ""
    return f"{region.start}–{region.end}{words}"


def _votes(region: Disagreement, arms: list[str], slots: dict[str, str]) -> str:
    said = (
        letter(arms.index(arm)) + (nothing(arm, region) if label is None else chip(label, slots))
        for arm, label in region.votes.items()
    )
    return " ".join(f'<span class="sr-vote">{vote}</span>' for vote in said)


def _note(report: Report) -> str:
    """The text in its rows, with the regions of disagreement marked; they are disjoint and in order."""
    return f'<h2>The note</h2><div class="sr-note">{"".join(_rows(report))}</div>'


def _rows(report: Report) -> Iterator[str]:
    text, marks, row_ends = report.note.text, list(_marks(report)), {end for _, end in rows(report.note.text)}
    starts, ends = {start for start, _ in marks}, {end for _, end in marks}
    row, marked = Html(), False
    for start, end in pairwise(sorted({0, *row_ends, *starts, *ends})):
        marked = start in starts or (marked and start not in ends)
        piece = escape(text[start:end])
        row += Html(f"<mark>{piece}</mark>") if marked else piece
        if end in row_ends:
            yield f'<div dir="auto">{row}</div>'
            row = Html()


def _marks(report: Report) -> Iterator[tuple[int, int]]:
    for region in report.comparison.disagreements:
        if region.start is not None:
            start, end = max(region.start, 0), min(region.end, len(report.note.text))
            yield from [(start, end)] if start < end else []


def _versions() -> str:
    return f"{', '.join(f'{package} {escape(number)}' for package, number in versions().items())}."
