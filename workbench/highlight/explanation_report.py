"""An explanation as one HTML file to keep or print, without scripts or outside resources.

Without the note's text its parts are offsets. With it, the note is shown as on the page, with the parts coloured.
"""

from trainer.prediction import Coverage
from workbench.compare.report import versions
from workbench.explain.explanation import Explanation
from workbench.explain.ranking import rank_parts
from workbench.explain.report import ExplanationReport
from workbench.explain.targets import SpanTarget, parse
from workbench.explain.wording import account, describe_target, score_words, verdict
from workbench.highlight.attribution import LISTED, Side, attribution, score_figure
from workbench.highlight.markup import STYLE, Html, concat, style, table
from workbench.note import hypothesis_in_words, question_in_words

_HEAD = Html(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Why a model gave a finding</title>'
    '<meta name="viewport" content="width=device-width">'
    """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
)
_STYLE = style("report.css")
_WARNING = "For research, not for clinical decisions. Scores are a model's own and not calibrated."


def explanation_page(report: ExplanationReport) -> Html:
    """The whole file."""
    target = parse(report.target)
    text = "with the note's text" if report.with_text else "without the note's text: places are offsets"
    about = f"{report.made:%d %B %Y, %H:%M}; a note of {len(report.note.text):,} characters; "
    if report.note.hypothesis:
        about += f"{hypothesis_in_words(report.note, with_text=report.with_text)}; "
    if report.note.question:
        about += f"{question_in_words(report.note, with_text=report.with_text)}; "
    about += f"{text}."
    parts = [
        Html("<h1>{}</h1>").format(report.title if report.with_text else describe_target(target)),
        Html('<p class="sr-about">{}</p>').format(about),
        *(map(Html("<p>{}</p>").format, report.sentences) if report.with_text else ()),
        *(_model(*each, report.cautions.get(each[0], "")) for each in report.explanations.items()),
    ]
    if report.with_text:
        sides = [Side(title, title, explanation) for title, explanation in report.explanations.items()]
        place = (target.start, target.end) if isinstance(target, SpanTarget) else None
        parts += [Html("<h2>The note</h2>"), attribution(report.note.text, sides, place)]
    else:
        parts += [_scores(title, explanation) for title, explanation in report.explanations.items()]
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    parts.append(Html('<p class="sr-about sr-foot">{}. {}</p>').format(packages, _WARNING))
    body = Html('<body><div class="sr">{}</div></body></html>\n').format(concat(parts))
    return concat([_HEAD, STYLE, _STYLE, Html("</head>"), body])


def _model(title: str, explanation: Explanation, caution: str) -> Html:
    judged = verdict(explanation)
    sentences = [
        f"The model's {score_words(explanation).replace(' ', ' for this is ', 1)}.",
        f"{judged.title}. {judged.meaning}",
        *judged.figures,
        f"{', '.join(account(explanation))}.",
        *_unread(explanation.coverage),
        *([caution] if caution else []),
    ]
    return Html("<h2>{}</h2>{}").format(title, concat(map(Html("<p>{}</p>").format, sentences)))


def _unread(coverage: Coverage) -> list[str]:
    places = ", ".join(f"{start}–{end}" for start, end in coverage.unread)
    return [f"Not read for this answer: characters {places}."] if places else []


def _scores(title: str, explanation: Explanation) -> Html:
    rows = [
        [f"{part.rank}", f"{part.start}–{part.end}", score_figure(part.score, explanation), f"{part.share:.0%}"]
        for part in rank_parts(explanation)[:LISTED]
    ]
    return table(f"The strongest parts, {title}", ["Rank", "Characters", "Score", "Share"], rows)
