"""Presets, titles of arms, and the story, out of entries and predictions written by hand."""

import pytest

from trainer import zoo
from trainer.prediction import Cost, Coverage, Prediction, Span
from workbench.compare.arms import arm_titles
from workbench.compare.presets import teachers_and_students, three_ways
from workbench.compare.story import story_steps
from workbench.predict import Arm


def entry(id: str, **fields) -> zoo.ModelEntry:
    usual = zoo.entries()["minilm-bc5cdr"]
    return usual.model_copy(update={"id": id, "name": id.title(), "teacher": None, "start": None} | fields)


def test_a_student_is_offered_beside_its_teacher_if_that_is_ready_for_the_same_task():
    teacher, student = entry("t"), entry("s", teacher="t", start="elsewhere")
    assert [preset.arms for preset in teachers_and_students([teacher, student])] == [("t", "s")]
    assert teachers_and_students([student]) == []
    assert teachers_and_students([entry("t", task="classification"), student]) == []
    tuned = entry("f", start="t", teacher="gone")
    assert [preset.arms for preset in teachers_and_students([teacher, tuned])] == [("t", "f")], "else what it came from"


def test_the_starters_give_a_teacher_and_its_student():
    ready = [each for each in zoo.entries().values() if each.source == "data"]
    assert ("minilm-bc5cdr", "minilm-bc5cdr-l3") in [preset.arms for preset in teachers_and_students(ready)]


def test_three_ways_take_a_long_model_where_one_is_ready():
    short, long = entry("s"), entry("l", max_tokens=4096)
    assert three_ways([short, long], "s").arms == ("s@truncate:128", "s@windows", "l@windows")
    assert three_ways([short], None).arms == ("s@truncate:128", "s@windows:128", "s@windows:512")
    assert three_ways([short, long], "l").arms[0] == "l@truncate:128"
    stranger = entry("g", max_tokens=4096, labels=("Gene",))
    assert three_ways([short, stranger], "s").arms[2] == "s@windows:512", "it could say nothing that the short one says"
    assert three_ways([entry("tiny", max_tokens=64)], None) is None and three_ways([], None) is None
    for arm in three_ways([short, long], "s").arms:
        assert Arm.parse(arm).name == arm


def test_titles_are_unique_and_made_for_what_is_chosen_of_ready_models():
    ready = [entry("a", name="Same"), entry("b", name="Same"), entry("c")]
    named = arm_titles(
        ready, ["a@truncate:128", "b@windows:64", "c@whole", "gone@windows", "c@windows:2", "![x](y)", "c"]
    )
    assert len(set(named.values())) == len(named) == 9
    assert named["a@truncate:128"] == "Same, a, beginning only (128 tokens)" and named["c@whole"] == "C, in one piece"
    assert named["b@windows:64"] == "Same, b, part by part (64 tokens)" and named["c@truncate"] == "C, beginning only"


def arm(
    name: str, *spans: tuple[int, int], read: int = 3000, reach=((128, 600), (256, 1200), (512, 2500))
) -> Prediction:
    unread = () if read == 3000 else ((600, 15_000),)
    coverage = Coverage(tokens=3000, tokens_read=read, windows=1, unread=unread, reach=reach)
    spans_of_arm = tuple(Span(start=a, end=b, label="Disease", score=0.5) for a, b in spans)
    cost = Cost(latency_ms=1, tokens_per_second=1)
    return Prediction(model=name, task="ner", spans=spans_of_arm, coverage=coverage, cost=cost, label_set=("Disease",))


SHORT = arm("m@truncate:128", (10, 20), read=126)
FULL = arm("m@windows", (10, 20), (1210, 1220), (2600, 2610))


def test_the_story_tells_what_lies_beyond_and_where_it_comes_into_view():
    other = arm("l@windows", (10, 20), (1210, 1220))
    read, reached, move, last = story_steps([SHORT, FULL, other], None)
    assert read == "A read 4% of the note; B and C read all of it."
    assert reached.startswith("Beyond that, B found 2 things and C found 1 thing.")
    assert "to 512 tokens" in move
    assert last.endswith("their agreement is 80%, and they differ in 1 place.")
    assert "B found 2 things. A could not" in story_steps([SHORT, FULL], None)[1]


def test_the_story_follows_the_context_length():
    assert "to 512 tokens" in story_steps([SHORT, FULL], 256)[2]
    assert (
        story_steps([SHORT, FULL], 512)[2] == "At 512 tokens, 1 of the findings that A missed and B found are in view."
    )
    late = arm("m@windows", (2600, 2610))
    assert (
        story_steps([SHORT, late], None)[2]
        == "The first of these findings is so far on that only the whole note shows it."
    )


@pytest.mark.parametrize(
    "arms",
    [
        [FULL, SHORT],
        [SHORT],
        [SHORT, arm("m@windows", (10, 20))],
        [SHORT, arm("m@truncate:256", (700, 710), read=250)],
        [arm("m@truncate:128", (10, 20)), FULL],
        [arm("m", (10, 20), read=126), FULL],
        [SHORT, arm("m@windows", (700, 710), reach=())],
    ],
    ids=["other order", "one arm", "nothing beyond", "all cut off", "read all", "not cut off on purpose", "no lengths"],
)
def test_a_story_that_does_not_hold_is_not_shown(arms):
    assert story_steps(arms, None) == []
