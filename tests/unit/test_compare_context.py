"""The beginning of a note: where a number of tokens ends, and what a model given only that did not read."""

from trainer.prediction import Cost, Coverage, Prediction, Span
from workbench.compare import context


def prediction(spans=(), **coverage) -> Prediction:
    entities = tuple(Span(start=a, end=b, label="Disease", score=0.5) for a, b in spans)
    cost = Cost(latency_ms=1, tokens_per_second=1)
    return Prediction(model="m", task="ner", spans=entities, coverage=Coverage(windows=1, **coverage), cost=cost)


WHOLE = prediction([(10, 20), (600, 610), (1200, 1210)], tokens=300, tokens_read=300, reach=((128, 600), (256, 1205)))


def test_only_lengths_that_cut_the_note_for_some_model_are_offered():
    short = prediction(tokens=140, tokens_read=140, reach=((128, 610),))
    assert context.context_lengths([short, WHOLE]) == [128, 256]
    assert context.context_lengths([prediction(tokens=12, tokens_read=12)]) == []


def test_a_finding_is_in_view_when_its_last_character_is():
    assert [context.count_in_view(WHOLE, tokens) for tokens in (128, 256, 512, None)] == [1, 2, 3, 3]
    assert [context.context_end(WHOLE, tokens) for tokens in (128, 512)] == [600, None]


def test_what_is_beyond_the_context_is_unread_of_the_whole_note():
    placed = context.extend_to_note(prediction(tokens=128, tokens_read=128), WHOLE, 600, 1400)
    assert placed.coverage.unread == ((600, 1400),) and (placed.coverage.tokens, placed.coverage.tokens_read) == (
        300,
        128,
    )
    cut = prediction(tokens=256, tokens_read=126, unread=((590, 1205),))  # a model that is cut off even earlier
    assert context.extend_to_note(cut, WHOLE, 1205, 1400).coverage.unread == ((590, 1400),)
