"""Questions: frames, windows and labels, heads of every family, the answers given, their scores and explanations."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from families import FAMILIES, family, small_tokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING, PreTrainedTokenizerFast

from trainer import datasets, inference, models
from trainer.architectures.minialbert_heads import MiniAlbertForQuestionAnswering
from trainer.datasets import Question
from trainer.datasets.rows.batches import framed
from trainer.datasets.rows.pieces import Pieces, cut, question_frame, windows
from trainer.datasets.rows.questions import QuestionReading, draw_windows, find_pieces, holding
from trainer.errors import BadData, BadSpec, CorruptFile
from trainer.evaluation import answer_scores
from trainer.examples import open_data
from trainer.inference.answers import Answers, best_spans
from trainer.models import heads
from trainer.prediction import Answer
from trainer.recipes.terms import Term
from trainer.tasks.questions import Questions
from trainer.training.objective import Objective
from trainer.zoo import outputs
from workbench import explain

QUESTION, TEXT = "a b", "c d e f g h a c"
TYPED = {"bert", "mobilebert", "big_bird", "albert", "minialbert"}
READING = {"doc_stride": 2, "max_answer_tokens": 3, "max_question_tokens": 8}


def tokenizer_of(kind):
    """Frames as those of a BERT, or of a RoBERTa with two separators between the texts; ids are known to all."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    words = ["[UNK]", "[PAD]", *words[2:]] if kind in ("roberta", "longformer") else words
    ids = {word: number for number, word in enumerate(words)}
    cutter = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    cutter.pre_tokenizer = Whitespace()
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    if kind in ("roberta", "longformer"):
        pair = "[CLS] $A [SEP] [SEP] $B:0 [SEP]:0"
    special = [(word, ids[word]) for word in ("[CLS]", "[SEP]")]
    cutter.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=special)
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if kind in TYPED - {"big_bird"} else [])]
    return PreTrainedTokenizerFast(tokenizer_object=cutter, model_input_names=names, model_max_length=64, **named)


def network_of(kind, **reading):
    network = family(kind, MODEL_FOR_QUESTION_ANSWERING_MAPPING, MiniAlbertForQuestionAnswering, labels=2)
    if kind in ("roberta", "longformer"):  # as published: one token type
        table = network.base_model.embeddings.token_type_embeddings
        network.config.type_vocab_size, table.num_embeddings = 1, 1
        table.weight = torch.nn.Parameter(table.weight[:1].detach())
    network.config.sep_token_id = getattr(network, "sep_token_id", 3) and 3
    if hasattr(network, "sep_token_id"):  # a BigBird looks for it
        network.sep_token_id = 3
    if kind == "mobilebert":  # whose embeddings look at their neighbours: models.load sees to this
        network.get_input_embeddings().weight.data[0] = 0
    network.config.question_reading = READING | reading
    return network


# --- What is read


def test_the_question_comes_first_and_its_tokens_are_marked():
    around = question_frame(tokenizer_of("bert"), QUESTION, max_tokens=8)
    assert (around.before, around.after, around.question) == ([2, 5, 6, 3], [3], 3)
    batch = framed([(np.array([7, 8]), around), (np.array([7]), around)])
    assert batch["input_ids"].tolist() == [[2, 5, 6, 3, 7, 8, 3], [2, 5, 6, 3, 7, 3, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 0]]
    assert batch["question_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0]] * 2
    of_roberta = question_frame(tokenizer_of("roberta"), QUESTION, max_tokens=8)
    assert (of_roberta.before, of_roberta.question) == ([2, 5, 6, 3, 3], 3) and not of_roberta.inner_type
    tokenizer = small_tokenizer()  # its template has no pair
    alone = question_frame(tokenizer, QUESTION, max_tokens=8)
    assert tokenizer.convert_ids_to_tokens(alone.before) == ["[CLS]", "a", "b", "[SEP]"] and alone.question == 3
    for wrong in ("a b a b a b a b a", " "):
        with pytest.raises(BadData, match="the question has"):
            question_frame(tokenizer_of("bert"), wrong, max_tokens=8)


def test_windows_share_what_they_are_told_and_one_holds_every_short_answer():
    table = windows(1000, 100, 60)
    assert (table[:-1, 1] - table[1:, 0]).min() >= 50, "half a window at most"
    assert (table[:, 1] - table[:, 0]).max() <= 100 and (table[0, 0], table[-1, 1]) == (0, 1000)
    assert all(holding(table, (first, first + 49)).any() for first in range(951))
    assert (windows(1000, 100, 30)[1:, 0] - windows(1000, 100, 30)[:-1, 0]).min() > 50
    np.testing.assert_array_equal(windows(1000, 100), windows(1000, 100, 25))


def test_windows_of_a_step_hold_the_answer_and_are_drawn_anew():
    table = windows(1000, 100, 30)
    drawn = [draw_windows(table, (500, 510), 3, (0, step, 0)) for step in range(20)]
    assert all(len(each) == 3 and holding(each, (500, 510)).any() for each in drawn)
    assert len({tuple(each[:, 0]) for each in drawn}) > 5
    np.testing.assert_array_equal(drawn[4], draw_windows(table, (500, 510), 3, (0, 4, 0)))
    assert len(draw_windows(table, None, 3, (0, 1, 0))) == 3 and draw_windows(table, None, 99, (0,)) is table


def test_an_answer_is_every_piece_that_it_touches():
    pieces = cut(TEXT, tokenizer_of("bert"))
    assert find_pieces(pieces, (4, 7)) == (2, 3) and find_pieces(pieces, (3, 4)) is None
    dropped = Pieces(np.array([1, 2, 3]), np.array([0, 1, 1]), np.array([1, 1, 2]))  # a piece of no characters
    assert find_pieces(dropped, (1, 2)) == (2, 2)


@pytest.fixture
def data(tmp_path):
    """Three questions: with an answer, with two answers, without one."""
    qas = [
        {"id": "1", "question": "a b", "answers": [{"text": "e f", "answer_start": 4}]},
        {"id": "2", "question": "a", "answers": [{"text": w, "answer_start": TEXT.index(w)} for w in ("g", "g h")]},
        {"id": "3", "question": "b", "answers": [], "is_impossible": True},
    ]
    for split in ("train", "dev", "test"):
        document = {"data": [{"paragraphs": [{"context": TEXT, "qas": qas}]}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(document))
    return open_data(Questions(doc_stride=2, most_windows=2), datasets.resolve(str(tmp_path)))


def test_training_rows_point_at_the_answer_or_at_the_first_token(data):
    tokenizer = tokenizer_of("bert")
    rows = data.rows("train", tokenizer, label_ids={}, max_tokens=10)
    assert len(rows.rows) == 4 and data.reading.no_answer
    batch = rows.batch([0, 1, 2, 3])
    windows_of = [len(row.windows) for row in rows.rows]
    assert batch["input_ids"].shape[0] == sum(windows_of) and max(windows_of) > 1
    said = []
    for ids, types, allowed, (start, end) in zip(
        batch["input_ids"], batch["token_type_ids"], batch["allowed"], batch["labels"].tolist(), strict=True
    ):
        said.append(tokenizer.decode(ids[start : end + 1]) if end else "")
        assert allowed.nonzero().flatten().tolist()[0] == 0 and (start == 0) == (end == 0)
        inner = (types == 1) & (ids != 3)
        assert allowed[1:].equal(inner[1:])
    assert {"e f", "g", "g h"} <= set(said) and said[-windows_of[-1] :] == [""] * windows_of[-1]
    for place, words in enumerate(("e f", "g", "g h")):
        mine = said[sum(windows_of[:place]) : sum(windows_of[: place + 1])]
        assert set(mine) <= {"", words} and words in mine
    step = rows.batch([0], step=5)
    assert len(step["labels"]) <= 2 and (step["labels"] > 0).any()


def test_unlabelled_questions_have_no_labels_and_a_long_question_is_named(data):
    data.read_unlabelled(data.dataset, limit=2)
    rows = data.rows("train", tokenizer_of("bert"), label_ids={}, max_tokens=16)
    assert len(rows.rows) == 6 and (rows.batch([4, 5])["labels"] == heads.IGNORED).all()
    short = open_data(Questions(max_question_tokens=1), data.dataset)
    with pytest.raises(BadData, match="question 1 of dev: the question has 2 word pieces; 1 to 1 are read"):
        short.rows("train", tokenizer_of("bert"), label_ids={}, max_tokens=16)
    with pytest.raises(BadData, match="the question takes up 5 of the 5"):
        data.rows("train", tokenizer_of("bert"), label_ids={}, max_tokens=5)


# --- Heads


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "ultrabert"])
def test_every_architecture_reads_a_question_as_its_own_forward_does(kind):
    """With token types where it has them, and with a Longformer's global attention on the question alone."""
    network, tokenizer = network_of(kind), tokenizer_of(kind)
    encoded = tokenizer([QUESTION, "b"], [TEXT, "c d"], padding=True, return_tensors="pt")
    with torch.no_grad():
        own = network(**encoded)  # a Longformer and a BigBird find the question by themselves
    own_logits = torch.stack([own.start_logits, own.end_logits], dim=-1)
    asked = ((QUESTION, TEXT), ("b", "c d"))
    parts = [(cut(text, tokenizer).ids, question_frame(tokenizer, each, max_tokens=8)) for each, text in asked]
    batch = framed(parts)
    assert batch["input_ids"].equal(encoded["input_ids"])
    allowed = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
    for row, (ids, around) in enumerate(parts):
        allowed[row, [0, *range(len(around.before), len(around.before) + len(ids))]] = True
    assert ("token_type_ids" in heads.inputs(network, batch)) == (kind in TYPED)
    with torch.no_grad():
        trained = heads.forward(network, batch | {"allowed": allowed}, head="questions", levels=[2])
    expected = heads.end_logits(own_logits, allowed)
    assert torch.allclose(trained.logits, expected, atol=1e-5)
    assert torch.allclose(trained.logits.softmax(-1).sum(-1), torch.ones(4))
    assert heads.unit_states(network, trained.states[2], batch | {"allowed": allowed}).shape == (int(allowed.sum()), 32)

    shares = expected.softmax(-1).view(2, 2, -1)
    [answers, _] = inference.answer_questions([TEXT, "c d"], [QUESTION, "b"], network, tokenizer)
    assert answers.no_answer == pytest.approx(float(shares[0, :, 0].prod()), abs=1e-5)
    begin, length = len(parts[0][1].before), len(parts[0][0])
    by_hand = {
        (2 * first, 2 * last + 1): float(shares[0, 0, begin + first] * shares[0, 1, begin + last])
        for first, last in product(range(length), repeat=2)
        if first <= last < first + READING["max_answer_tokens"]
    }
    best = max(by_hand, key=by_hand.get)
    assert (answers.ranked[0].start, answers.ranked[0].end) == best
    assert answers.ranked[0].score == pytest.approx(by_hand[best], abs=1e-5)

    target = f"{best[0]}:{best[1]}:answer"
    options = explain.ExplainOptions(method="feature_ablation", orders=0)
    why = explain.explain_text(TEXT, network, tokenizer, target, options, question=QUESTION, name="m")
    assert why.probability == pytest.approx(by_hand[best], abs=1e-5)
    assert any(part.score for part in why.attributions) and all(part.end <= len(TEXT) for part in why.attributions)


def test_a_longformer_attends_globally_to_the_question_and_to_nothing_else():
    network, tokenizer = network_of("longformer"), tokenizer_of("longformer")
    around = question_frame(tokenizer, QUESTION, max_tokens=8)
    batch = framed([(cut(TEXT, tokenizer).ids, around)])
    [mask] = heads.inputs(network, batch)["global_attention_mask"].tolist()
    assert mask == [1, 1, 1] + [0] * (len(mask) - 3)


def test_weights_are_saved_loaded_and_known_for_what_they_are(tmp_path):
    tokenizer = tokenizer_of("bert")
    models.save(network_of("bert"), tokenizer, tmp_path / "m")
    network, _ = models.load(str(tmp_path / "m"))
    assert inference.task(network) == "questions" and inference.output_names(network) == ["start", "end"]
    assert inference.label_set(network) == ("answer",) and inference.question_reading(network).doc_stride == 2
    again, _ = models.load(str(tmp_path / "m"), task="questions", labels=outputs.ENDS)
    assert again.qa_outputs.weight.equal(network.qa_outputs.weight), "a published head stays when it is trained on"
    shapes = {"bert.pooler.dense.weight": (32, 32), "qa_outputs.weight": (2, 32)}
    assert outputs.head_of({}, shapes) == "questions"
    with pytest.raises(CorruptFile, match="3 outputs"):
        outputs.read({"architectures": ["BertForQuestionAnswering"]}, {"qa_outputs.weight": (3, 32)}, where="x")


# --- Training


def test_soft_targets_are_over_the_places_of_a_window():
    teacher, student = network_of("bert"), network_of("bert")
    with torch.no_grad():
        student.qa_outputs.weight.mul_(0.5)
    tokenizer = tokenizer_of("bert")
    parts = [(cut(t, tokenizer).ids, question_frame(tokenizer, "a", max_tokens=8)) for t in (TEXT, "c d")]
    allowed = torch.zeros(2, 12, dtype=torch.bool)
    allowed[0, [0, *range(3, 11)]] = True
    allowed[1, [0, 3, 4]] = True
    labels = torch.tensor([[4, 5], [0, 0]])
    batch = framed(parts) | {"allowed": allowed, "labels": labels}
    plan = [Term(name="soft_targets", weight=1.0, temperature=2.0), Term(name="task", weight=1.0)]
    objective = Objective(student, plan, head="questions", teacher=teacher).eval()
    terms = objective(batch)
    expected, gold = [], []
    with torch.no_grad():
        outs = [heads.logits_of(each(**heads.inputs(each, batch))) for each in (teacher, student)]
    for row, end in product(range(2), range(2)):
        where = allowed[row].nonzero().flatten()
        theirs, mine = (each[row, where, end] for each in outs)
        divergence = torch.nn.functional.kl_div((mine / 2).log_softmax(-1), (theirs / 2).softmax(-1), reduction="sum")
        expected.append(4 * divergence)
        gold.append(-mine.log_softmax(-1)[where.tolist().index(labels[row, end])])
    assert terms["loss.soft_targets"].item() == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)
    assert terms["loss.task"].item() == pytest.approx(float(torch.stack(gold).mean()), rel=1e-4)
    terms["loss"].backward()
    assert torch.isfinite(student.qa_outputs.weight.grad).all()


# --- Answers


def test_the_best_spans_are_those_of_every_start_and_end():
    noise = torch.Generator().manual_seed(1)
    starts, ends = torch.rand(3, 40, generator=noise), torch.rand(3, 40, generator=noise)
    places, scores = best_spans(starts, ends, longest=5)
    for row in range(3):
        by_hand = {(i, j): float(starts[row, i] * ends[row, j]) for i in range(40) for j in range(i, min(40, i + 5))}
        wanted = sorted(by_hand, key=by_hand.get, reverse=True)[:20]
        assert [tuple(each) for each in places[row].tolist()] == wanted
        assert scores[row].tolist() == pytest.approx([by_hand[each] for each in wanted])
    assert best_spans(starts[:, :2], ends[:, :2], longest=30)[0].shape == (3, 4, 2)


def test_an_answer_is_found_in_whichever_window_of_a_text_of_any_length():
    """In a text of many windows the answer's score is the highest over the windows that hold it."""
    network, tokenizer = network_of("bert"), tokenizer_of("bert")
    text = " ".join("cdefgh"[n * n % 6] for n in range(120))
    options = {"max_tokens": 20}
    prediction = inference.predict(text, network, tokenizer, question=QUESTION, name="m", **options)
    assert prediction.coverage.windows > 5 and prediction.answer and prediction.runner_up
    assert prediction.spans[0].label == "answer" and prediction.spans[0].start == prediction.answer.start
    around, pieces = question_frame(tokenizer, QUESTION, max_tokens=8), cut(text, tokenizer)
    best, least = 0.0, 1.0
    for start, end, *_ in windows(120, around.room(120, 20), 2):
        batch = framed([(pieces.ids[start:end], around)])
        with torch.no_grad():
            logits = heads.logits_of(network(**heads.inputs(network, batch)))[0, [0, *range(4, 4 + end - start)]]
        shares = logits.double().softmax(0)
        least = min(least, float(shares[0].prod()))
        inner = shares[1:]
        best = max(
            best,
            *(float(inner[i, 0] * inner[j, 1]) for i in range(len(inner)) for j in range(i, min(len(inner), i + 3))),
        )
    assert prediction.answer.score == pytest.approx(best, rel=1e-4)
    assert prediction.no_answer == pytest.approx(least, rel=1e-4)
    runner_up = prediction.runner_up
    assert runner_up.end <= prediction.answer.start or prediction.answer.end <= runner_up.start
    document = prediction.to_json(text)
    assert document["answer"]["text"] == text[prediction.answer.start : prediction.answer.end]
    assert "text" not in prediction.to_json()["answer"]

    begun = inference.predict(text, network, tokenizer, question=QUESTION, name="m", reading="truncate", **options)
    assert begun.coverage.unread and begun.answer.end <= begun.coverage.unread[0][0]


def test_offsets_are_exact_and_pieces_of_a_word_are_given_as_the_word():
    pieces = Pieces(np.arange(3), np.array([0, 4, 7]), np.array([3, 7, 10]))
    from trainer.datasets.rows.words import words_in
    from trainer.inference.answers import _merge

    found = (np.array([[1, 1], [2, 2], [0, 2]]), np.array([0.5, 0.4, 0.1]), 0.2)
    answers = _merge([found], pieces, 0, words_in("the fevers"))
    assert [(each.start, each.end, each.score) for each in answers.ranked] == [(4, 10, 0.5), (0, 10, 0.1)]
    assert answers.no_answer == 0.2


def test_a_threshold_decides_where_a_text_may_lack_the_answer():
    some = Answers((Answer(start=0, end=3, score=0.2), Answer(start=2, end=9, score=0.1)), 0.3, 9)
    assert some.best(QuestionReading()).end == 3
    assert some.best(QuestionReading(no_answer=True)) is None
    assert some.runner_up(QuestionReading(no_answer=True)).end == 3
    assert some.best(QuestionReading(no_answer=True, threshold=0.5)).end == 3
    assert some.runner_up(QuestionReading()) is None  # the other one overlaps
    assert some.log_odds == pytest.approx(math.log(0.3 / 0.2))
    assert Answers((), 1.0, 0).best(QuestionReading()) is None


def test_a_text_without_pieces_has_no_answer():
    network, tokenizer = network_of("bert"), tokenizer_of("bert")
    prediction = inference.predict("  ", network, tokenizer, question=QUESTION, name="m")
    assert prediction.answer is None and prediction.no_answer == 1 and not prediction.spans
    assert prediction.to_json("  ")["answer"] is None


def test_a_model_says_what_it_lacks():
    network, tokenizer = network_of("bert"), tokenizer_of("bert")
    with pytest.raises(BadSpec, match="question: found none"):
        inference.predict(TEXT, network, tokenizer, name="m")
    with pytest.raises(BadData, match="the question has 10 word pieces; 1 to 8 are read"):
        inference.predict(TEXT, network, tokenizer, question="a b c d e a b c d e", name="m")
    network.config.question_reading = {"doc_stride": "x"}
    with pytest.raises(CorruptFile, match="question_reading"):
        inference.question_reading(network)


# --- Scores


# The examples are written from the definition of SQuAD's official script, evaluate-v2.0.py.
@pytest.mark.parametrize(
    ("predicted", "gold", "is_exact", "f1"),
    [
        ("The fever.", "fever", 1, 1),
        ("a  Fever,\n of an unknown origin", "fever of unknown origin", 1, 1),
        ("fever and rash", "fever", 0, 0.5),
        ("fever fever rash", "fever fever", 0, 0.8),
        ("the", "", 1, 1),
        ("fever", "", 0, 0),
        ("", "fever", 0, 0),
        ("37.5", "375", 1, 1),
        ("theatre", "atre", 0, 0),
    ],
)
def test_answers_are_compared_as_the_official_script_does(predicted, gold, is_exact, f1):
    assert answer_scores.exact(predicted, gold) == is_exact
    assert answer_scores.word_f1(predicted, gold) == pytest.approx(f1)


def question(text, *golds, id="1"):
    places = tuple((text.index(gold), text.index(gold) + len(gold)) for gold in golds)
    return Question(id, text, "Which?", places, 1)


def answers_of(text, *ranked, none=0.0):
    found = (Answer(start=text.index(w), end=text.index(w) + len(w), score=s) for w, s in ranked)
    return Answers(tuple(found), none, 9)


def test_scores_of_questions_with_and_without_an_answer():
    text = "He had fever, a rash and a dry cough."
    asked = [question(text, "fever", "fever, a rash"), question(text, "dry cough"), question(text), question(text)]
    said = [
        answers_of(text, ("a rash", 0.6), ("fever", 0.3)),
        answers_of(text, ("rash", 0.5), ("the", 0.0)) if "the" in text else answers_of(text, ("rash", 0.5)),
        answers_of(text, ("fever", 0.1), none=0.9),
        answers_of(text, ("fever", 0.9), none=0.1),
    ]
    scores = answer_scores.metrics(answer_scores.measures(asked, said, QuestionReading(no_answer=True)))
    assert scores["exact_match"] == 0.25 and scores["f1"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert scores["has_answer.f1"] == pytest.approx(1 / 3) and scores["no_answer.exact_match"] == 0.5
    assert (scores["mrr"], scores["strict_accuracy"], scores["lenient_accuracy"]) == (0.25, 0, 0.5)
    intervals = answer_scores.bootstrap(answer_scores.measures(asked, said, QuestionReading(no_answer=True)))
    assert intervals.keys() == scores.keys() and all(low <= high for low, high in intervals.values())
    every = answer_scores.measures(asked[:2], said[:2], QuestionReading())
    assert not any("." in name for name in every)


def test_the_snippets_of_a_bioasq_question_are_ranked_as_one():
    text, other = "He had fever and a rash.", "There was fever once; cough too."
    ids = [f"{'0123456789abcdef01234567'}_{number:03}" for number in (1, 2)]
    asked = [question(text, "fever", id=ids[0]), question(other, "fever", id=ids[1])]
    said = [answers_of(text, ("rash", 0.5), ("fever", 0.2)), answers_of(other, ("cough", 0.4), ("fever", 0.3))]
    values = answer_scores.measures(asked, said, QuestionReading())
    assert values["mrr"][0] == pytest.approx(1 / 3) and np.isnan(values["mrr"][1])


def test_the_threshold_is_the_one_with_the_highest_f1():
    text = "He had fever."
    rows = [("fever", 0.8, 0.1, True), ("fever", 0.5, 0.4, True), ("fever", 0.3, 0.6, True), ("He", 0.2, 0.9, False)]
    asked = [question(text, "fever") if right else question(text) for *_, right in rows]
    said = [answers_of(text, (words, score), none=none) for words, score, none, _ in rows]
    chosen = answer_scores.best_threshold(asked, said)
    assert math.log(0.6 / 0.3) < chosen < math.log(0.9 / 0.2)
    reading = QuestionReading(no_answer=True, threshold=chosen)
    assert answer_scores.metrics(answer_scores.measures(asked, said, reading))["f1"] == 1
    assert answer_scores.best_threshold(asked[:1], said[:1]) == 0.0
