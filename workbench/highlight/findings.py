"""The table of findings beside a note: each finding once, under its heading, with links to its places.

stepping.js sorts it by a column, within each heading.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from trainer.prediction import Prediction
from workbench.compare.findings import Finding, by_section, list_findings
from workbench.highlight.disagreements import step_buttons
from workbench.highlight.markup import Html, concat, count, letter, value_class
from workbench.predict import percent

LISTED = 500  # findings in the table; the CSV export has all
PLACES = 4  # lines with a link in a row
NO_SCORE = "–"  # of a model that does not find it
EXCERPT = 60  # characters of a finding in a table


def finding_anchor(start: int, pane: int) -> str:
    """The id of the place in a pane where findings start; `start` is an offset."""
    return f"sr-f{max(start, 0)}-{pane}"


def findings_table(
    text: str, predictions: Sequence[Prediction], pane_numbers: Sequence[int], colours: dict[str, str]
) -> Html:
    """The number of findings, the step buttons and the table; `pane_numbers` are those of the predictions."""
    findings = list_findings(text, predictions)
    finders = first_finders(predictions, pane_numbers)
    line_ends = [place for place, character in enumerate(text) if character == "\n"]
    room, bodies = LISTED, []
    for title, group in by_section(findings):
        rows = concat(_row(each, finders, line_ends) for each in islice(group, room))
        room = max(0, room - len(group))
        bodies.append(_body(title, group, rows, colours, columns=4 + len(predictions)))
    table = Html('<table class="sr-sorted"><thead>{}</thead>{}</table>')
    picture = table.format(_columns(pane_numbers), concat(bodies)) if findings else ""
    rest = len(findings) - LISTED
    more = Html('<p class="sr-more">{:,} more are in the export.</p>').format(rest) if rest > 0 else ""
    return Html('{}<nav class="sr-rail sr-findings" aria-label="Findings" tabindex="0">{}{}{}</nav>').format(
        step_buttons(min(len(findings), LISTED)),
        Html('<p class="sr-figure"><b>{}</b></p>').format(
            count(len(findings), "finding") if findings else "No findings"
        ),
        picture,
        more,
    )


def first_finders(predictions: Sequence[Prediction], pane_numbers: Sequence[int]) -> dict[tuple[int, int, str], int]:
    """The first pane that shows a span, by its start, end and label."""
    finders: dict[tuple[int, int, str], int] = {}
    for prediction, number in zip(predictions, pane_numbers, strict=True):
        for span in prediction.spans:
            finders.setdefault((span.start, span.end, span.label), number)
    return finders


def _columns(pane_numbers: Sequence[int]) -> Html:
    names = [letter(number) for number in pane_numbers] if len(pane_numbers) > 1 else [Html("Score")]
    sortable = Html('<th><button type="button" class="sr-sort">{}</button></th>')
    heads = concat(sortable.format(name) for name in ("Finding", "Times", "Line", *names))
    return Html("<tr>{}<td></td></tr>").format(heads)


def _body(title: str, group: Sequence[Finding], rows: Html, colours: dict[str, str], columns: int) -> Html:
    classes = f"{colours[group[0].label]}{value_class(group[0].values)}"
    head = Html('<tr class="sr-section"><th colspan="{}"><span class="sr-chip {}">{}</span> <b>{:,}</b></th></tr>')
    return Html("<tbody>{}{}</tbody>").format(head.format(columns, classes, title, len(group)), rows)


def _row(finding: Finding, finders: dict[tuple[int, int, str], int], line_ends: Sequence[int]) -> Html:
    words = finding.words if len(finding.words) <= EXCERPT else f"{finding.words[:EXCERPT]}…"
    anchors = [finding_anchor(start, finders[start, end, finding.label]) for start, end in finding.places]
    lines: dict[int, list[str]] = {}  # the anchors of the places in each
    for anchor, (start, _) in zip(anchors, finding.places, strict=True):
        lines.setdefault(bisect_right(line_ends, max(start, 0) - 1) + 1, []).append(anchor)
    links = [
        Html('<a href="#{}">{}</a>{}').format(
            there[0], line, f"\N{NARROW NO-BREAK SPACE}×{len(there)}" if there[1:] else ""
        )
        for line, there in islice(lines.items(), PLACES)
    ]
    where = Html(", ").join([*links, *(["…"] if len(lines) > PLACES else [])])
    scores = concat(
        Html("<td>{}</td>").format(NO_SCORE if score is None else percent(score)) for score in finding.scores
    )
    return Html(
        '<tr><td class="sr-words"><a class="sr-jump" href="#{}"><bdi>{}</bdi></a></td><td>{:,}</td><td>{}</td>{}'
        '<td><button type="button" class="sr-ask">Why</button></td></tr>'
    ).format(anchors[0], words or "(no words)", len(finding.places), where, scores)
