"""The HTML of a note: only our own tags, and the note's text unchanged, whatever it holds."""

import re
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.errors import Refused
from trainer.prediction import AttributeValue, Cost, Coverage, LabelScore, Prediction, Span
from workbench import highlight
from workbench.compare import compare
from workbench.highlight import STEPPING, STYLE, Pane, displayable, panes, results
from workbench.highlight.disagreements import APART, MEANINGS
from workbench.highlight.markup import SLOTS, TAGS, Html, colours
from workbench.highlight.panes import NOT_READ, ROWS

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</span></mark><script>alert(1)</script><!-- --><![CDATA[",
    ":red[x] :material/bug_report: $\\alpha$ [a](http://x.example) ![i](http://x.example/i.png) **b** `c`",
    "a\r\nb\rc\n\n  \t\td \n",
    "\x00\x01\x07\x1b[31m\x7f\x0b\x0c\u2028\u2029\ufeff",
    "\u202eעברית\u202c שלום \u2066mixed\u2069 العربية",
    "e\u0301 👩🏽‍⚕️ \U0001f9ec \ud800 &amp; &#13; &lt;b&gt; \"'",
    'id="sr-d0-0" {{7*7}} javascript:alert(1)',
]


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, and the text of each pane without its chips."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.panes, self.chips, self.scores, self.stack = [], [], [], [], []
        self.feed(re.sub("\r\n?", "\n", source))  # as browsers do before they parse
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        classes = (dict(attributes).get("class") or "").split()
        if "sr-pane" in classes:
            self.panes.append("")
        if "sr-chip" in classes:
            self.chips.append("")
        self.stack.append((tag, classes))

    def handle_endtag(self, tag):
        assert self.stack.pop()[0] == tag

    def handle_data(self, data):
        inside = {name for _, classes in self.stack for name in classes}
        if "sr-score" in inside:
            self.scores.append(data)
        elif "sr-chip" in inside:
            self.chips[-1] += data
        elif "sr-line" in inside:
            self.panes[-1] += data

    def handle_comment(self, data):
        raise AssertionError("a comment came through")

    handle_decl = handle_pi = unknown_decl = handle_comment


def prediction(name: str, spans=(), *, unread=(), labels=("Disease",)) -> Prediction:
    return Prediction(
        model=name,
        task="ner",
        spans=tuple(Span(start=a, end=b, label=label, score=0.5) for a, b, label in spans),
        coverage=Coverage(tokens=9, tokens_read=9 if not unread else 4, windows=1, unread=unread),
        cost=Cost(latency_ms=12, tokens_per_second=1),
        label_set=tuple(labels),
    )


def page(text: str, *predictions: Prediction) -> Page:
    compared = compare(predictions) if len(predictions) > 1 else None
    return Page(results(text, [Pane(prediction.model, prediction=prediction) for prediction in predictions], compared))


TEXT = st.text(max_size=60) | st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join)
LABEL = st.sampled_from(["Disease", "Chemical", "", *HOSTILE]) | st.text(max_size=8)
SPANS = st.lists(st.tuples(st.integers(-5, 90), st.integers(-5, 200), LABEL), max_size=8)
RANGES = st.lists(st.tuples(st.integers(-5, 90), st.integers(-5, 200)), max_size=3).map(tuple)
ATTRIBUTES = {"class", "id", "href", "dir", "tabindex", "role", "aria-label", "aria-live", "type", "colspan"}


@settings(deadline=None)
@given(TEXT, SPANS, SPANS, RANGES, LABEL)
@example("".join(HOSTILE), [(0, 9, "Disease"), (3, 400, HOSTILE[1])], [(2, 30, HOSTILE[0])], ((20, 60),), "Disease")
def test_any_text_spans_and_labels_give_our_tags_and_the_text_itself(text, first, second, unread, name):
    view = page(text, prediction(f"a{name}", first), prediction(f"b{name}", second, unread=unread))
    assert view.panes == [displayable(text)] * 2
    classes = set(re.findall(r"sr-[a-z0-9]+", STYLE)) | {"sr", "sr-n2"}
    for tag, attributes in view.tags:
        assert tag in TAGS and set(attributes) <= ATTRIBUTES
        assert set(attributes.get("class", "sr").split()) <= classes
        assert re.fullmatch(r"sr-([df]\d+-\d|g\d)", attributes.get("id", "sr-d0-0"))
        assert re.fullmatch(r"#sr-([df]\d+-\d|g\d)", attributes.get("href", "#sr-d0-0"))
    ids = [attributes["id"] for _, attributes in view.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@settings(deadline=None)
@given(TEXT)
def test_a_note_alone_is_its_text(text):
    assert Page(highlight.note(text)).panes == [displayable(text)]


@settings(deadline=None)
@given(st.text())
def test_what_cannot_be_shown_keeps_its_place(text):
    assert len(displayable(text)) == len(text)
    assert [
        pair for pair in zip(text, displayable(text), strict=True) if pair[0] != pair[1] and pair[0].isprintable()
    ] == []


def test_every_jump_has_its_place_in_its_pane():
    text = "Fever and chills after naloxone"
    view = page(text, prediction("a", [(0, 5, "Disease"), (10, 16, "Disease")]), prediction("b", [(0, 9, "Disease")]))
    jumps = [attributes["href"][1:] for tag, attributes in view.tags if tag == "a"]
    ids = [attributes["id"] for _, attributes in view.tags if "id" in attributes]
    regions = [each for each in ids if not each.startswith("sr-f")]
    assert sorted(set(jumps)) == sorted(regions) == ["sr-d0-0", "sr-d0-1", "sr-d1-0", "sr-d1-1", "sr-g0", "sr-g1"]


def test_disagreements_stand_under_their_kind_with_its_count():
    text = "Fever. Chills. Rash. Cough."
    one = prediction("a", [(0, 5, "Disease"), (7, 13, "Disease"), (15, 19, "Disease")])
    other = prediction("b", [(0, 6, "Disease"), (21, 26, "Disease")], unread=((14, 20),))
    html = results(text, [Pane(arm.model, prediction=arm) for arm in (one, other)], compare([one, other]))
    a, b = (f'<b class="sr-arm">{name}</b>' for name in "AB")
    kinds = [f"Only {a}", f"Only {b}", "Different boundaries", f"Not read by {b}"]
    assert re.findall(r'<h2 class="sr-group" id="sr-g\d">(.*?) <b>1</b></h2>', html) == kinds
    assert re.findall(r'<a href="#sr-g\d">(.*?) <b>1</b></a>', html) == kinds
    assert "4 places" in html


def test_a_span_shows_its_score_and_is_never_certain():
    sure = Span(start=7, end=13, label="Disease", score=0.999)
    answer = prediction("a", [(0, 5, "Disease")])
    assert page("Fever. Chills.", answer.model_copy(update={"spans": (*answer.spans, sure)})).scores == [
        "50%",
        ">99%",
    ]


def asserted(name: str, value: str) -> Prediction:
    """A finding with this assertion."""
    arm = prediction(name, [(0, 5, "Disease")])
    attributes = {"assertion": AttributeValue(value=value, score=0.9)}
    return arm.model_copy(update={"spans": (arm.spans[0].model_copy(update={"attributes": attributes}),)})


def test_what_is_absent_is_struck_through_with_its_word_and_present_goes_without_saying():
    html = results("Fever.", [Pane("a", prediction=asserted("a", "absent"))])
    assert '<span class="sr-struck">Disease</span><span class="sr-value">absent</span>' in html
    assert '<mark class="sr-span sr-l1 sr-absent' in html
    possible = results("Fever.", [Pane("a", prediction=asserted("a", "possible<b>"))])
    assert "Disease" in possible and '<span class="sr-value">possible&lt;b&gt;</span>' in possible
    assert "sr-struck" not in possible and " sr-unsure" in possible
    present = results("Fever.", [Pane("a", prediction=asserted("a", "present"))])
    assert "sr-value" not in present and "sr-absent" not in present and "sr-unsure" not in present


def test_two_assertions_of_one_finding_stand_under_a_kind_of_their_own():
    arms = [asserted("a", "absent"), asserted("b", "present")]
    html = results("Fever.", [Pane(arm.model, prediction=arm) for arm in arms], compare(arms))
    assert re.findall(r'<h2 class="sr-group" id="sr-g\d">(.*?) <b>1</b></h2>', html) == ["Different assertion"]
    votes = html[html.index('class="sr-votes"') :]
    assert '<span class="sr-value">absent</span>' in votes and '<span class="sr-value">present</span>' in votes


def test_the_script_that_steps_knows_no_note_and_makes_no_html():
    assert STEPPING.count("<script>") == 1 and "innerHTML" not in STEPPING and "fetch" not in STEPPING
    named = set(re.findall(r"\.(sr-[a-z]+)", STEPPING))
    one, other = prediction("a", [(0, 5, "Disease")]), prediction("b")
    panes = [Pane("a", prediction=one), Pane("b", prediction=other)]
    html = results("Fever", panes, compare([one, other])) + results("Fever", panes, findings=True)
    assert named - {"sr-here"} <= set(re.findall(r"sr-[a-z]+", html)) and ".sr-here" in STYLE


def test_labels_are_words_and_one_label_has_one_colour_in_all_panes():
    text = "Fever after naloxone"
    both = ("Chemical", "Disease")
    one = prediction("a", [(0, 5, "Disease"), (12, 20, "Chemical")], labels=both)
    html = results(text, [Pane("a", prediction=one), Pane("b", prediction=prediction("b", [(0, 5, "Disease")]))])
    assert re.findall(r'<span class="sr-chip (sr-l\d)">(\w+)<', html) == [
        ("sr-l1", "Disease"),
        ("sr-l0", "Chemical"),
        ("sr-l1", "Disease"),
    ]


def test_findings_stand_in_a_table_with_a_link_to_each_line():
    text = "Fever. No rash.\n\nfever, fever, fever <b>, fever."
    places = [(match.start(), match.end(), "problem") for match in re.finditer("(?i)fever", text)]
    one = prediction("a", places, labels=("problem",))
    other = prediction("b", [places[0], (10, 14, "problem")], labels=("problem",))
    html = results(text, [Pane("a", prediction=one), Pane("b", prediction=other)], findings=True)
    table, view = html[: html.index("sr-panes")], Page(html)
    ids = {attributes["id"] for _, attributes in view.tags if "id" in attributes}
    links = [attributes["href"][1:] for tag, attributes in view.tags if tag == "a"]
    assert links == ["sr-f0-0"] * 2 + ["sr-f17-0", "sr-f10-1", "sr-f10-1"]
    assert set(links) <= ids, "a finding of one model leads to the pane of that model"
    assert re.findall(r"<td>([^<]*)</td>", table) == ["", "5", "50%", "50%", "1", "–", "50%"]
    assert (
        '<a href="#sr-f17-0">3</a>\N{NARROW NO-BREAK SPACE}×4' in table
        and "Problems" in table
        and "2 findings" in table
    )


def test_a_table_without_findings_says_so_and_a_classifier_has_none():
    assert "No findings" in results("Fever", [Pane("a", prediction=prediction("a"))], findings=True)
    labels = classified("a", ("x", 0.9), ("y", 0.1))
    assert "sr-findings" not in results("Fever", [Pane("a", prediction=labels)], findings=True)


@settings(deadline=None)
@given(TEXT, SPANS, SPANS)
@example("".join(HOSTILE), [(0, 9, "Disease"), (3, 400, HOSTILE[1])], [(2, 30, HOSTILE[0])])
def test_any_text_and_labels_give_a_table_of_our_tags(text, first, second):
    arms = [prediction("a", first), prediction("b", second)]
    view = Page(results(text, [Pane(arm.model, prediction=arm) for arm in arms], findings=True))
    assert view.panes == [displayable(text)] * 2
    for tag, attributes in view.tags:
        assert tag in TAGS and set(attributes) <= ATTRIBUTES
        assert re.fullmatch(r"#sr-f\d+-\d", attributes.get("href", "#sr-f0-0"))
    ids = [attributes["id"] for _, attributes in view.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_label_has_one_colour_whatever_stands_beside_it():
    both = colours(["problem", "Gene", "Other"])
    assert colours(["Gene"]) == {"Gene": both["Gene"]}
    assert len({both["problem"], colours(["treatment"])["treatment"], colours(["test"])["test"]}) == 3
    assert not {both["Gene"], both["Other"]} & set(colours(SLOTS).values())


def test_who_was_not_trained_on_notes_says_so_beside_its_findings():
    html = results("Fever.", [Pane("a", prediction=prediction("a"), caution="Trained on <i>.")])
    assert '<p class="sr-caution">Trained on &lt;i&gt;.</p>' in html
    assert "sr-caution" not in results("Fever.", [Pane("a", prediction=prediction("a"))])


def test_technical_words_stand_under_details():
    html = results("Fever.", [Pane("a", prediction=prediction("a", unread=((3, 6),)))])
    outside = re.sub(r"<details>.*?</details>", "", html)
    assert "read 44% of the note" in outside and "token" not in outside and " ms" not in outside
    assert "token" in html and "12 ms" in html


def test_each_unread_range_is_stated_once_in_words():
    text = "Fever.\n\nChills.\nRash.\n"
    view = page(text, prediction("a", unread=((8, 22),)))
    assert view.chips == [NOT_READ]
    assert sum("sr-unread" in attributes.get("class", "") for _, attributes in view.tags) == 2  # one a line
    assert "read 4 of 9 tokens (44%)" in results(text, [Pane("a", prediction=prediction("a", unread=((8, 22),)))])


def test_a_region_says_nothing_or_not_read_where_an_arm_is_silent():
    text = "Fever. Chills."
    seen = [(0, 5, "Disease"), (7, 13, "Disease")]
    view = page(text, prediction("a", seen), prediction("b", unread=((6, 14),)))
    listed, first, second = view.chips[:4], view.chips[4:6], view.chips[6:]
    assert listed == ["Disease", "nothing", "Disease", "not read"]
    assert first == ["Disease", "Disease"]
    assert second == ["nothing", NOT_READ, "not read"]


def test_panes_without_a_prediction_show_their_stage_or_error_and_escape_it():
    error = Refused("found <b>this</b>", next_step="do & see")
    html = results("Fever", [Pane("<i>a</i>", stage="loading"), Pane("b", title="B & Co", error=error)])
    view = Page(html)
    assert view.panes[0] == "Fever" and "loading the model" in html
    assert "found &lt;b&gt;this&lt;/b&gt;" in html and "do &amp; see" in html and "B &amp; Co" in html


def test_a_waiting_pane_shows_its_queue_position_and_progress():
    panes = [Pane("a", stage="reading", progress=0.456), Pane("b", ahead=2), Pane("c", stage="reading"), Pane("d")]
    stages = re.findall(r'class="sr-stage">(.*?)<', results("Fever", panes))
    assert stages == [
        "reading the note, 46%",
        "waiting in the queue, 2 requests ahead",
        "reading the note",
        "waiting in the queue",
    ]


def test_figures_and_their_meaning_are_stated():
    one, other = prediction("a", [(0, 5, "Disease")]), prediction("b", [(0, 5, "Disease")])
    html = results("Fever", [Pane("a", prediction=one), Pane("b", prediction=other)], compare([one, other]))
    assert "No disagreements" in html and "100% agreement" in html and MEANINGS["spans"] in html
    gene = prediction("b", labels=("Gene",))
    html = results("Fever", [Pane("a", prediction=one), Pane("b", prediction=gene)], compare([one, gene]))
    assert "no label in common" in html
    silent = [prediction("a", []), prediction("b", [])]
    html = results("Fever", [Pane(arm.model, prediction=arm) for arm in silent], compare(silent))
    assert "No model found any of the labels" in html and "agreement</span>" not in html


def classified(name: str, *scores: tuple[str, float], threshold=None) -> Prediction:
    labels = tuple(LabelScore(label=label, score=score) for label, score in scores)
    return prediction(name, labels=[label for label, _ in scores]).model_copy(
        update={"task": "classification", "labels": labels, "threshold": threshold}
    )


def bars(html: str) -> list[tuple[str, bool, int]]:
    """(label, whether it is given, width in per cent) of each bar."""
    items = re.findall(r'<li class="sr-bar ([^"]*)">.*?<bdi>(.*?)</bdi>.*?sr-w(\d+)"', html)
    return [(label, "sr-given" in classes, int(width)) for classes, label, width in items]


def test_labels_of_the_whole_note_are_bars_likeliest_first():
    one = classified("a", ("Urology", 0.72), ("Surgery", 0.28), ("Letters", 0.001))
    html = results("Fever", [Pane("a", prediction=one)])
    assert bars(html) == [("Urology", True, 72), ("Surgery", False, 28), ("Letters", False, 0)]
    assert "72%" in html and "&lt;1%" in html and "span</span>" not in html
    many = classified("a", *((f"label {n}", 0.9 - n / 100) for n in range(20)), threshold=0.8)
    html = results("Fever", [Pane("a", prediction=many)])
    assert len(bars(html)) == 11 and all(likely for _, likely, _ in bars(html)), "all that are given are listed"
    assert "9 less likely labels not shown" in html and "Labels of at least 80% are given" in html


def test_labels_that_differ_are_a_disagreement_of_the_whole_note():
    html = results(*shown_together(classified("a", ("x", 0.9), ("y", 0.1)), classified("b", ("y", 0.6), ("x", 0.4))))
    assert "1 disagreement<" in html and "0% agreement" in html and MEANINGS["labels"] in html
    listed = re.search(r'Whole note <b>1</b></h2><ol class="sr-list">(.*?)</ol>', html)[1]
    assert re.findall(r"sr-chip sr-l\d\">(\w)<", listed) == ["x", "y"]
    assert "href" not in listed, "there is no place to jump to"


def test_models_of_two_kinds_stand_side_by_side_and_say_so():
    html = results(*shown_together(prediction("a", [(0, 5, "Disease")]), classified("b", ("x", 0.9), ("y", 0.1))))
    assert "One model marks words, the other labels the whole note" in html and APART in html
    assert bars(html)[0][0] == "x" and "sr-span" in html


def shown_together(*predictions: Prediction) -> tuple:
    return "Fever", [Pane(each.model, prediction=each) for each in predictions], compare(predictions)


@settings(deadline=None)
@given(st.lists(st.tuples(LABEL, st.floats(-0.1, 1.1)), min_size=1, max_size=12), st.none() | st.floats(0, 1))
def test_any_label_is_escaped_and_no_score_leaves_the_fixed_classes(scores, threshold):
    first, second = (classified(name, *scores, threshold=threshold) for name in "ab")
    view = page("Fever", first, second)
    assert view.panes == ["Fever"] * 2
    classes = set(re.findall(r"sr-[a-z0-9]+", STYLE)) | {"sr", "sr-n2"}
    for tag, attributes in view.tags:
        assert tag in TAGS and set(attributes) <= ATTRIBUTES
        assert set(attributes.get("class", "sr").split()) <= classes


def test_many_lines_share_rows_and_the_grid_has_room_for_them():
    text = "line\n" * (3 * ROWS + 1)
    view = page(text, prediction("a"))
    lines = sum(attributes.get("class") == "sr-line" for _, attributes in view.tags)
    assert lines <= ROWS and view.panes == [text]
    assert f"grid-row: 1 / span {ROWS + 1};" in STYLE


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["\n", "x", " ", "word " * 900, "y" * 9000, "\u202eש\n", "line\n" * 700]), max_size=30),
)
def test_rows_are_the_lines_unless_those_are_many_or_very_long(parts):
    text = "".join(parts)
    row_texts = panes.rows(text)
    assert "".join(text[start:end] for start, end in row_texts) == text and all(start < end for start, end in row_texts)
    assert len(row_texts) <= ROWS
    assert all(end - start <= max(panes.WIDEST + 1, len(text) // (ROWS // 2) + 2) for start, end in row_texts)
    lines = text.splitlines(keepends=True)
    if len(lines) <= ROWS and all(len(line) <= panes.WIDEST for line in lines):
        assert [text[start:end] for start, end in row_texts] == lines
    for _, end in row_texts[:-1]:
        assert text[end - 1].isspace() or not any(map(str.isspace, text[end - panes.WIDEST : end])), "cut in a word"


def test_a_million_characters_are_drawn():
    text = "Fever after naloxone. " * 45_500
    spans = [(at, at + 5, "Disease") for at in range(0, len(text), 220)]
    assert page(text, prediction("a", spans), prediction("b", spans[::2])).panes == [text, text]


def test_html_is_passed_to_streamlit_untouched():
    assert highlight.note("  a  ")._repr_html_() == highlight.note("  a  ")
    assert "highlight.css" in {path.name for path in Path(highlight.__file__).parent.iterdir()}


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.lists(st.integers(1, 4999), max_size=6))
def test_a_ruler_shows_what_was_read_and_where_windows_meet(tokens, read, seams):
    read = min(tokens, read)
    seams = tuple(sorted({seam for seam in seams if seam < read}))
    coverage = Coverage(tokens=tokens, tokens_read=read, windows=1 + len(seams), seams=seams)
    cells = re.findall(r'<span class="(sr-read|sr-read sr-seam|sr-tail)"></span>', panes._ruler(coverage))
    assert len(cells) == min(panes.CELLS, tokens)
    if cells:
        assert abs(sum(cell != "sr-tail" for cell in cells) / len(cells) - read / tokens) <= 1 / len(cells)
        assert cells == sorted(cells, key="sr-tail".__eq__)  # the tail is at the end
        assert 0 < cells.count("sr-read sr-seam") <= len(seams) if seams else "sr-read sr-seam" not in cells
    assert (NOT_READ in panes._ruler(coverage)) == (read < tokens)


def test_what_is_html_is_known_by_its_type():
    made = Html("<b>1</b>")
    assert Html.escape(made) is made and Html.escape("<b>1</b>") == "&lt;b&gt;1&lt;/b&gt;"
    assert made + "<i>" == "<b>1</b>&lt;i&gt;" and type(made + made) is Html
