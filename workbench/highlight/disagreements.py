"""The list of disagreements, by kind, and the steps through them."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from trainer.tasks import answers
from workbench.compare import Comparison, Disagreement, Group, grouped
from workbench.highlight.markup import Html, chip, count, escape, letter, silence

# By what models answer, what the figure of agreement counts.
MEANINGS = {
    "spans": "Agreement: F1 of spans with equal borders and label, of the labels both models know, averaged over "
    "pairs.",
    "labels": "Agreement: the share of pairs that give the note the same label; where a note may have several, "
    "the share of the given labels that both give.",
}
APART = "Models that mark words and models that label the whole note are compared among themselves only."
LISTED = 300  # disagreements in the list
# The same few lines for every note: they find their way by the classes and ids of this package.
STEPPING = Html(f"<script>{Path(__file__).with_name('stepping.js').read_text(encoding='utf-8')}</script>")

_EXCERPT, _AROUND = 60, 24  # characters


def anchor(region: int, pane: int) -> str:
    """The id of a disagreement's place in a pane."""
    return f"sr-d{region}-{pane}"


def nothing(arm: str, region: Disagreement) -> str:
    """What a chip says where an arm is silent."""
    return silence("not read" if arm in region.unread else "nothing")


def rail(text: str, comparison: Comparison, arms: list[str], slots: dict[str, str]) -> str:
    """Figures, the steps, and every disagreement under its kind with each arm's vote."""
    groups = [(group, letters(group, arms)) for group in grouped(comparison)]
    listed = "".join(_lists(text, comparison, groups, arms, slots))
    inner = f"{_figures(comparison)}{_kinds(groups)}{listed}{meanings(comparison)}"
    return f'{_steps(comparison)}<nav class="sr-rail" aria-label="Disagreements">{inner}</nav>'


def meanings(comparison: Comparison) -> str:
    """What the figures of agreement count."""
    kinds = [answers(prediction.task) for prediction in comparison.predictions]
    said = [MEANINGS[kind] for kind in MEANINGS if kinds.count(kind) > 1]
    said += [APART] if len(set(kinds)) > 1 else []
    return "".join(f'<p class="sr-more">{words}</p>' for words in said)


def letters(group: Group, arms: Sequence[str]) -> str:
    """A kind of disagreement in words: Only A, Not read by B and C, Other label."""
    named = [letter(arms.index(arm)) for arm in group.arms]
    who = f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else "".join(named)
    return {
        "document": "The whole note",
        "only": f"Only {who}",
        "label": "Other label",
        "boundary": "Other borders",
        "unread": f"Not read by {who}",
    }[group.kind]


def _figures(comparison: Comparison) -> str:
    if comparison.agreement is None:
        return f'<p class="sr-figure">{comparison.no_agreement}</p>'
    places = count(len(comparison.disagreements), "disagreement") if comparison.disagreements else "No disagreements"
    return f'<p class="sr-figure"><b>{places}</b><span>{comparison.agreement:.0%} agreement</span></p>'


def _kinds(groups: list[tuple[Group, str]]) -> str:
    """How many there are of each kind; each leads to its part of the list."""
    if len(groups) < 2:
        return ""
    ways = (f'<a href="#sr-g{n}">{words} <b>{len(group.items):,}</b></a>' for n, (group, words) in enumerate(groups))
    return f'<p class="sr-kinds">{"".join(ways)}</p>'


def _steps(comparison: Comparison) -> str:
    """Buttons to the previous and the next place; keys do the same, see stepping.js."""
    places = min(LISTED, sum(region.kind != "document" for region in comparison.disagreements))
    if not places:
        return ""
    at = f'<span class="sr-at" aria-live="polite">{count(places, "place")}</span>'
    return f'<div class="sr-steps">{_step("Previous", "p")}{at}{_step("Next", "n")}</div>'


def _step(words: str, key: str) -> str:
    return f'<button type="button" class="sr-step">{words} <span class="sr-key">{key}</span></button>'


def _lists(
    text: str, comparison: Comparison, groups: list[tuple[Group, str]], arms: list[str], slots: dict[str, str]
) -> Iterator[str]:
    found, room = comparison.disagreements, LISTED
    for number, (group, words) in enumerate(groups):
        items = "".join(_item(text, key, found[key], arms, slots) for key in islice(group.items, room))
        room = max(0, room - len(group.items))
        yield f'<h2 class="sr-group" id="sr-g{number}">{words} <b>{len(group.items):,}</b></h2>'
        yield f'<ol class="sr-list">{items}</ol>'
    if len(found) > LISTED:
        yield f'<p class="sr-more">The first {LISTED:,} are listed.</p>'


def _item(text: str, key: int, region: Disagreement, arms: list[str], slots: dict[str, str]) -> str:
    first = arms.index(next(iter(region.votes)))
    votes = "".join(_vote(key, region, arm, arms.index(arm), slots) for arm in region.votes)
    if region.kind == "document":
        return f'<li><div class="sr-votes">{votes}</div></li>'
    jump = f'<a class="sr-jump" href="#{anchor(key, first)}"><bdi>{excerpt(text, region)}</bdi></a>'
    return f'<li>{jump}<div class="sr-votes">{votes}</div></li>'


def excerpt(text: str, region: Disagreement) -> str:
    """The region with a few words around it, on one line."""
    before = re.split(r"\s", text[max(region.start - _AROUND, 0) : region.start], maxsplit=1)[-1]
    after = re.split(r"\s", text[region.end : region.end + _AROUND][::-1], maxsplit=1)[-1][::-1]
    inner = text[region.start : region.end]
    inner = inner if len(inner) <= _EXCERPT else f"{inner[:_EXCERPT]}…"
    around = [Html(f'<span class="sr-around">{escape(part)}</span>') for part in (before, after)]
    return escape(inner).join(around)


def _vote(key: int, region: Disagreement, arm: str, number: int, slots: dict[str, str]) -> str:
    label = region.votes[arm]
    verdict = nothing(arm, region) if label is None else chip(label, slots)
    if region.kind == "document":
        return f'<span class="sr-vote">{letter(number)}{verdict}</span>'
    return f'<a class="sr-vote" href="#{anchor(key, number)}">{letter(number)}{verdict}</a>'
