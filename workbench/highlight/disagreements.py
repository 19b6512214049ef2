"""The list of disagreements, by kind, and the buttons that step through them."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from trainer.tasks import TASKS, answers
from workbench.compare import Comparison, Disagreement, Group, group_by_kind
from workbench.highlight.markup import Html, chip, concat, count, letter, missing_chip
from workbench.highlight.tables import share

# What the agreement figure counts, by what the models answer.
MEANINGS = {
    "spans": "Agreement: of what two models mark, the share that both mark with the same words, label and assertion "
    "(F1), for labels that both models know, averaged over pairs of models.",
    "labels": "Agreement: the share of pairs of models that give the note the same label; where a note may have "
    "several labels, the share of the labels given by either model that both give.",
    "answer": "Agreement: how much of their answers two models share, as F1 over characters, averaged over pairs of "
    "models; 1 where neither gives an answer.",
    "value": "Agreement: how near the values of two models are, 1 where they are the same and 0 where they are the "
    "whole scale apart, averaged over pairs of models with the same scale.",
}
APART = "Models are compared only with those that answer in the same way: mark words, label the whole note, and so on."
LISTED = 300  # disagreements in the list
# One script for every note; it works by the classes and ids of this package.
STEPPING = Html(f"<script>{Path(__file__).with_name('stepping.js').read_text(encoding='utf-8')}</script>")

_EXCERPT, _AROUND = 60, 24  # characters


def anchor(index: int, pane: int) -> str:
    """The id of a disagreement's place in a pane."""
    return f"sr-d{index}-{pane}"


def no_vote(arm: str, disagreement: Disagreement) -> Html:
    """The chip of an arm that found nothing."""
    return missing_chip("not read" if arm in disagreement.unread else "nothing")


def vote_chip(arm: str, disagreement: Disagreement, colours: dict[str, str]) -> Html:
    """What an arm says of a disagreement."""
    label = disagreement.votes[arm]
    if label is None:
        return no_vote(arm, disagreement)
    values = list(disagreement.attributes.get(arm, {}).values())
    return chip(label, colours[label], values=values, every_value=True)


def disagreement_list(text: str, comparison: Comparison, arms: list[str], colours: dict[str, str]) -> Html:
    """The figures, the step buttons, and every disagreement under its kind with each arm's vote."""
    groups = [(group, group_title(group, arms)) for group in group_by_kind(comparison)]
    parts = [
        _figures(comparison),
        _kinds(groups),
        *_lists(text, comparison, groups, arms, colours),
        Html("<details><summary>What agreement means</summary>{}</details>").format(agreement_notes(comparison)),
    ]
    places = sum(disagreement.kind != "document" for disagreement in comparison.disagreements)
    steps = step_buttons(min(LISTED, places))
    return Html('{}<nav class="sr-rail" aria-label="Disagreements">{}</nav>').format(steps, concat(parts))


def agreement_notes(comparison: Comparison) -> Html:
    """What the agreement figures count."""
    tasks = [prediction.task for prediction in comparison.predictions]
    kinds = [(answers(task), TASKS[task].predicts) for task in tasks]
    notes = [MEANINGS[kind] for kind in MEANINGS if any(kind == one[0] and kinds.count(one) > 1 for one in kinds)]
    notes += [APART] if len(set(kinds)) > 1 else []
    return concat(Html('<p class="sr-more">{}</p>').format(words) for words in notes)


def group_title(group: Group, arms: Sequence[str]) -> Html:
    """A kind of disagreement in words: Only A, Not read by B and C, Different labels."""
    letters = [letter(arms.index(arm)) for arm in group.arms]
    names = Html(" and ").join([Html(", ").join(letters[:-1]), letters[-1]] if len(letters) > 1 else letters)
    title = {
        "document": "Whole note",
        "only": "Only {}",
        "label": "Different labels",
        "attribute": "Different {}",
        "boundary": "Different boundaries",
        "unread": "Not read by {}",
    }[group.kind]
    return Html(title).format(" and ".join(group.attributes) if group.kind == "attribute" else names)


def _figures(comparison: Comparison) -> Html:
    if comparison.agreement is None:
        return Html('<p class="sr-figure">{}</p>').format(comparison.no_agreement)
    total = count(len(comparison.disagreements), "disagreement") if comparison.disagreements else "No disagreements"
    return Html('<p class="sr-figure"><b>{}</b><span>{} agreement</span></p>').format(
        total, share(comparison.agreement)
    )


def _kinds(groups: list[tuple[Group, Html]]) -> Html:
    """How many there are of each kind, with a link to its part of the list."""
    if len(groups) < 2:
        return Html()
    link = Html('<a href="#sr-g{}">{} <b>{:,}</b></a>')
    links = (link.format(number, title, len(group.indices)) for number, (group, title) in enumerate(groups))
    return Html('<p class="sr-kinds">{}</p>').format(concat(links))


def step_buttons(places: int) -> Html:
    """Buttons to the previous and the next of these places; keys do the same, see stepping.js."""
    if not places:
        return Html()
    return Html('<div class="sr-steps">{}<span class="sr-at" aria-live="polite">{}</span>{}</div>').format(
        _step("Previous", "p"), count(places, "place"), _step("Next", "n")
    )


def _step(words: str, key: str) -> Html:
    return Html('<button type="button" class="sr-step">{} <span class="sr-key">{}</span></button>').format(words, key)


def _lists(
    text: str, comparison: Comparison, groups: list[tuple[Group, Html]], arms: list[str], colours: dict[str, str]
) -> Iterator[Html]:
    disagreements, room = comparison.disagreements, LISTED
    for number, (group, title) in enumerate(groups):
        listed = islice(group.indices, room)
        items = concat(_item(text, index, disagreements[index], arms, colours) for index in listed)
        room = max(0, room - len(group.indices))
        yield Html('<h2 class="sr-group" id="sr-g{}">{} <b>{:,}</b></h2>').format(number, title, len(group.indices))
        yield Html('<ol class="sr-list">{}</ol>').format(items)
    if len(disagreements) > LISTED:
        yield Html('<p class="sr-more">Only the first {:,} are listed.</p>').format(LISTED)


def _item(text: str, index: int, disagreement: Disagreement, arms: list[str], colours: dict[str, str]) -> Html:
    first = arms.index(next(iter(disagreement.votes)))
    votes = concat(_vote(index, disagreement, arm, arms.index(arm), colours) for arm in disagreement.votes)
    jump = Html()
    if disagreement.kind != "document":
        link = Html('<a class="sr-jump" href="#{}"><bdi>{}</bdi></a>')
        jump = link.format(anchor(index, first), excerpt(text, *disagreement.place))
    return Html('<li>{}<div class="sr-votes">{}</div></li>').format(jump, votes)


def excerpt(text: str, start: int, end: int) -> Html:
    """text[start:end] with a few words around it, on one line."""
    before = re.split(r"\s", text[max(start - _AROUND, 0) : start], maxsplit=1)[-1]
    after = re.split(r"\s", text[end : end + _AROUND][::-1], maxsplit=1)[-1][::-1]
    inner = text[start:end]
    around = Html('<span class="sr-around">{}</span>')
    return concat(
        [around.format(before), inner if len(inner) <= _EXCERPT else f"{inner[:_EXCERPT]}…", around.format(after)]
    )


def _vote(index: int, disagreement: Disagreement, arm: str, number: int, colours: dict[str, str]) -> Html:
    vote = vote_chip(arm, disagreement, colours)
    if disagreement.kind == "document":
        return Html('<span class="sr-vote">{}{}</span>').format(letter(number), vote)
    return Html('<a class="sr-vote" href="#{}">{}{}</a>').format(anchor(index, number), letter(number), vote)
