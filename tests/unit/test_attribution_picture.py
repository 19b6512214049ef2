"""The picture of an explanation: only our own tags, and the note's text unchanged, whatever it holds."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.test_explain_agreement import explanation
from unit.test_highlight import ATTRIBUTES, HOSTILE, LABEL, RANGES, TEXT, Page

from trainer.errors import Refused
from workbench.explain.wording import Verdict, account
from workbench.highlight import STYLE, Side, attribution, displayable
from workbench.highlight.attribution import CHIPS, LISTED, UNSEEN
from workbench.highlight.markup import TAGS

SCORES = st.floats(-50, 50) | st.sampled_from([0.0, 1e-9, -1e-9])
PARTS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 200), SCORES), max_size=14)


def side(parts, *, name="a", unread=(), level="better", words=(), **fields) -> Side:
    places, scores = [(a, b) for a, b, _ in parts], [score for *_, score in parts]
    answer = explanation(scores, places=places, unread=unread, **{"method": "integrated_gradients"} | fields)
    return Side(
        name, explanation=answer, verdict=Verdict(level, "title", "meaning", tuple(words)), account=account(answer)
    )


@settings(deadline=None)
@given(TEXT, PARTS, PARTS, RANGES, LABEL, st.none() | st.tuples(st.integers(-5, 90), st.integers(-5, 200)))
@example("".join(HOSTILE), [(0, 9, 2.0), (3, 400, -1.0)], [(2, 30, 1.0)], ((20, 60),), HOSTILE[1], (4, 50))
def test_any_text_parts_and_names_give_our_tags_and_the_text_itself(text, first, second, unread, name, asked):
    sides = [
        side(first, name=f"a{name}", words=[name]),
        side(second, name=f"b{name}", unread=unread, method="saliency"),
    ]
    picture = Page(attribution(text, sides, asked))
    assert picture.panes == [displayable(text)] * 2
    classes = set(re.findall(r"sr-[a-z0-9]+", STYLE)) | {"sr"}
    for tag, attributes in picture.tags:
        assert tag in TAGS and set(attributes) <= ATTRIBUTES
        assert set(attributes.get("class", "sr").split()) <= classes
        assert re.fullmatch(r"sr-p\d+-\d", attributes.get("id", "sr-p0-0"))
        assert re.fullmatch(r"#sr-p\d+-\d", attributes.get("href", "#sr-p0-0"))
    ids = [attributes["id"] for _, attributes in picture.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


WORDS = "Fever and chills after naloxone, no rash."
OWN = [(0, 5, 2.0), (6, 9, 0.02), (10, 16, -1.0), (17, 22, 0.5), (23, 31, 0.0)]


def test_sign_strength_rank_and_figure_of_a_part_are_in_the_note():
    html = attribution(WORDS, [side(OWN)])
    marks = re.findall(r'<mark class="sr-part sr-(for|against) sr-s(\d+) sr-short"[^>]*>(\w+)(.*?)</mark>', html)
    marks_shown = [(sign, level, word, re.sub(r"<.*?>", "", chip)) for sign, level, word, chip in marks]
    assert marks_shown == [
        ("for", "10", "Fever", "1 +2.00"),
        ("for", "0", "and", "4 +0.02"),
        ("against", "5", "chills", "2 \N{MINUS SIGN}1.00"),
        ("for", "2", "after", "3 +0.50"),
    ]
    assert "opposes it \N{MINUS SIGN}2.00" in html and "+2.00 supports it" in html
    assert "Above 0 they support the finding" in html and "Share: of all scores" in html


def test_only_the_strongest_parts_carry_a_chip():
    parts = [(3 * n, 3 * n + 2, n + 1.0) for n in range(30)]
    lines = "".join(re.findall(r'<div class="sr-line".*?</div>', attribution("ab " * 30, [side(parts)])))
    assert lines.count("sr-chip") == CHIPS and "<b>10</b> +21.00" in lines and "<b>11</b>" not in lines


def test_the_table_is_sorted_and_every_jump_has_its_place():
    html = attribution(WORDS, [side(OWN)])
    rows = re.findall(r"<tr><td>(\d+)</td>.*?<bdi>(\w+)</bdi>.*?<td>(\d+%)</td></tr>", html)
    assert rows == [("1", "Fever", "57%"), ("2", "chills", "28%"), ("3", "after", "14%"), ("4", "and", "1%")]
    picture = Page(html)
    jumps = [attributes["href"][1:] for tag, attributes in picture.tags if tag == "a"]
    assert sorted(jumps) == sorted(attributes["id"] for _, attributes in picture.tags if "id" in attributes)


def test_two_models_share_a_table_by_their_best_rank_and_say_what_one_lacks():
    html = attribution(WORDS, [side(OWN), side([(0, 5, 0.1), (10, 16, 3.0), (23, 31, 1.0)], name="b")])
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td>.*?<bdi>(\w+)</bdi>", html)
    assert rows == [
        ("1", "3", "Fever"),
        ("2", "1", "chills"),
        ("–", "2", "naloxone"),
        ("3", "–", "after"),
        ("4", "–", "and"),
    ]
    assert Page(html).panes == [WORDS, WORDS]


def test_a_long_table_says_how_many_it_leaves_out():
    parts = [(3 * n, 3 * n + 2, n + 1.0) for n in range(LISTED + 20)]
    html = attribution("ab " * (LISTED + 20), [side(parts)])
    assert html.count("<tr>") == LISTED + 1 and f"The strongest words ({LISTED} of {LISTED + 20})." in html


def test_what_was_not_seen_is_stated_once_and_the_target_is_framed():
    picture = Page(attribution("Fever.\n\nChills.\nRash.\n", [side([(0, 5, 1.0)], unread=((8, 22),))], (0, 5)))
    assert picture.chips.count(UNSEEN) == 1
    assert sum("sr-unread" in attributes.get("class", "") for _, attributes in picture.tags) == 2  # one a line
    framed = attribution("Fever.", [side([(0, 5, 1.0)])], (0, 5))
    assert framed.count('class="sr-asked"') == 2  # in the legend, and in the note


def test_an_untrusted_explanation_is_greyed_out_and_its_reasons_are_escaped():
    html = attribution("Fever", [side([(0, 5, 1.0)], level="doubtful", words=["a < b"])])
    assert "sr-pane sr-doubted" in html and "a &lt; b" in html
    assert "sr-chip sr-for" not in html, "nor in colour in the table"
    trusted = attribution("Fever", [side([(0, 5, 1.0)])])
    assert "sr-doubted" not in trusted and "sr-chip sr-for" in trusted


def test_what_is_awaited_its_progress_and_an_error_are_shown():
    error = Refused("found <b>this</b>", next_step="do & see")
    html = attribution("Fever", [Side("a", waiting="explaining, 40 %", share=0.4), Side("b", error=error)])
    assert "explaining, 40 %" in html and "sr-fill sr-w40" in html and "sr-waiting" in html
    assert "found &lt;b&gt;this&lt;/b&gt;" in html and "do &amp; see" in html and "<table" not in html


def test_a_method_without_a_sign_shows_none():
    html = attribution("Fever", [side([(0, 5, 0.004)], method="saliency")])
    assert "opposes" not in html and "gradient length" in html and "0.0040" in html


def test_a_million_characters_are_drawn():
    text = "Fever after naloxone. " * 45_500
    parts = [(at, at + 5, 1.0) for at in range(0, 4400, 22)]
    assert Page(attribution(text, [side(parts, unread=((4400, len(text)),))])).panes == [text]
