"""Inference: windows, offsets, the pipeline's words, batches, readings, and words that are split already."""

import itertools
import math
import threading
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer import inference
from trainer.datasets.rows import pieces as word_pieces
from trainer.datasets.rows.words import words_in
from trainer.datasets.tags import read as read_tags
from trainer.errors import BadSpec, UnknownName
from trainer.inference import decoding

TEXTS = (
    "The patient denies chest pain; metoprolol 25 mg b.i.d. was stopped on 3/4/2021 (see note).",
    "Naïve café-au-lait spots,\r\n\tβ-blocker \u00b5g/mL 😀👩‍⚕️ cafe\u0301 re\u0301sume\u0301\r\nDose:5mg/kg.",
    "المريض يعاني من ألم في الصدر. החולה סובל מכאבים. 患者は胸痛を訴えた。",
    "[SEP] and [CLS] written in a note, \x00 a NUL, \u200bzero width\u200d, \ufeffBOM, tail   \n\n ",
    "Pneumonoultramicroscopicsilicovolcanoconiosis " * 12,
)
LABELS = ("O", "B-Disease", "I-Disease", "B-Chemical", "I-Chemical")
texts = st.text(st.one_of(st.characters(), st.sampled_from("ab \r\n.,-é\u0301😀ש[]")), max_size=60)


def varied(model):
    """The same model with a head whose tags vary from piece to piece."""
    generator = torch.Generator().manual_seed(7)
    head = model.classifier
    torch.nn.init.normal_(head.weight, std=1.0, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def tagger(tiny_model):
    """(model, tokenizer): BERT with WordPiece."""
    from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

    torch.set_num_threads(1)
    config = BertConfig(
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=64,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForTokenClassification(config)
    return varied(model), AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module", params=["byte-level", "unigram"])
def other(request):
    """(model, tokenizer): RoBERTa with byte-level BPE, DistilBERT with a SentencePiece-like unigram model."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoModelForTokenClassification, DistilBertConfig, PreTrainedTokenizerFast, RobertaConfig

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if request.param == "byte-level":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    backend.train_from_iterator(TEXTS * 3, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)
    shape = {"vocab_size": len(tokenizer), "id2label": dict(enumerate(LABELS))}
    if request.param == "byte-level":
        config = RobertaConfig(
            num_hidden_layers=1,
            hidden_size=32,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=66,
            type_vocab_size=1,
            **shape,
        )
    else:
        config = DistilBertConfig(n_layers=1, dim=32, n_heads=2, hidden_dim=32, max_position_embeddings=64, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForTokenClassification.from_config(config)
    return varied(model), tokenizer


def pipeline_spans(text, model, tokenizer):
    """(start, end, label) and scores as transformers' pipeline has them."""
    from transformers import pipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tag = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first")
        entities = tag(text)
    return [(e["start"], e["end"], e["entity_group"]) for e in entities], [float(e["score"]) for e in entities]


def triples(prediction):
    return [(span.start, span.end, span.label) for span in prediction.spans]


def check_spans(text, prediction):
    """In bounds, in order, none empty, none overlapping."""
    ends = [0, *(span.end for span in prediction.spans)]
    for before, span in zip(ends, prediction.spans, strict=False):
        assert before <= span.start < span.end <= len(text)
        assert 0 <= span.score <= 1 + 1e-6
        assert span.label in prediction.label_set


# Windows


def context(plan, tokens):
    """(windows, tokens): how far each token is from the nearer edge of each window, -1 outside it.

    The ends of the text are no edges.
    """
    token = np.arange(tokens)
    rows = []
    for start, end, _, _ in plan.tolist():
        left = token - start if start else np.full(tokens, tokens)
        right = end - 1 - token if end < tokens else np.full(tokens, tokens)
        rows.append(np.where((token >= start) & (token < end), np.minimum(left, right), -1))
    return np.array(rows)


@given(tokens=st.integers(0, 1500), size=st.integers(1, 200))
@settings(deadline=None)
def test_each_token_is_kept_once_by_the_window_that_shows_it_most_context(tokens, size):
    plan = inference.windows(tokens, size)
    keeper = [window for window, row in enumerate(plan.tolist()) for _ in range(row[2], row[3])]
    assert len(keeper) == tokens
    assert plan[1:, 2].tolist() == plan[:-1, 3].tolist()
    assert (plan[:, 1] - plan[:, 0] <= size).all()
    if tokens:
        shown = context(plan, tokens)
        np.testing.assert_array_equal(shown[keeper, np.arange(tokens)], shown.max(axis=0))
        assert shown.max(axis=0).min() >= 0


@given(tokens=st.integers(0, 5000), size=st.integers(4, 512))
@settings(deadline=None)
def test_windows_are_few_and_their_neighbours_share_a_quarter(tokens, size):
    plan = inference.windows(tokens, size)
    shared = plan[:-1, 1] - plan[1:, 0]
    assert (shared >= size // 4 - 1).all()
    assert len(plan) == (0 if not tokens else max(1, math.ceil((tokens - size // 4) / (size - size // 4))))
    assert len(set((plan[:, 1] - plan[:, 0]).tolist())) <= 1


@pytest.mark.parametrize(("tokens", "count"), [(0, 0), (1, 1), (509, 1), (510, 1), (511, 2), (893, 2), (894, 3)])
def test_window_counts_around_the_size_of_one(tokens, count):
    plan = inference.windows(tokens, 510)
    assert len(plan) == count
    if count:
        assert plan[0, 0] == 0
        assert plan[-1, 1] == tokens


def test_long_text_equals_a_plain_reading_of_each_window(tagger):
    """Window by window, one at a time, without batches: the best-context rule written as a search."""
    model, tokenizer = tagger
    text = " ".join(TEXTS) * 2
    limit = 40
    prediction = inference.predict(text, model, tokenizer, name="m", max_tokens=limit)
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    assert prediction.coverage.tokens == prediction.coverage.tokens_read == len(ids) > 10 * limit
    plan = inference.windows(len(ids), limit - 2)
    assert prediction.coverage.windows == len(plan)
    assert list(prediction.coverage.seams) == plan[1:, 2].tolist() and "seams" not in prediction.to_json()["coverage"]
    best = {}
    with torch.inference_mode():
        for (start, end, _, _), shown in zip(plan.tolist(), context(plan, len(ids)), strict=True):
            row = torch.tensor([[tokenizer.cls_token_id, *ids[start:end], tokenizer.sep_token_id]])
            for token, chances in enumerate(model(input_ids=row).logits[0, 1:-1].softmax(-1), start):
                if token not in best or shown[token] > best[token][0]:
                    best[token] = (shown[token], chances.max(-1))
    chosen = [best[token][1] for token in range(len(ids))]
    words = words_in(text)
    aligned = word_pieces.cut(text, tokenizer).align(words)
    scores = np.array([float(each.values) for each in chosen])
    spans = aligned.read(np.array([int(each.indices) for each in chosen]), scores, read_tags(LABELS))
    expected = decoding.spans(words.places.tolist(), *spans)
    assert triples(prediction) == [(s.start, s.end, s.label) for s in expected]
    np.testing.assert_allclose([s.score for s in prediction.spans], [s.score for s in expected], atol=1e-5)
    assert len({s.label for s in expected}) == 2


# Offsets


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_pieces_lie_in_the_text_in_order(tagger, text):
    _, tokenizer = tagger
    pieces = word_pieces.cut(text, tokenizer)
    assert (pieces.starts < pieces.ends).all()
    assert (np.diff(pieces.starts) >= 0).all()  # not strictly: one Hangul syllable can be several pieces
    assert (np.diff(pieces.ends) >= 0).all()
    assert not len(pieces) or (pieces.starts[0] >= 0 and pieces.ends[-1] <= len(text))


@given(before=texts, after=texts)
@settings(max_examples=150, deadline=None)
def test_a_word_is_found_where_it_stands_whatever_surrounds_it(tagger, before, after):
    _, tokenizer = tagger
    text = f"{before} aspirin {after}"
    pieces = word_pieces.cut(text, tokenizer)
    at = len(before) + 1
    covered = [(int(s), int(e)) for s, e in zip(pieces.starts, pieces.ends, strict=True) if at <= s < at + 7]
    assert covered[0][0] == at
    assert covered[-1][1] == at + 7
    assert "".join(text[s:e] for s, e in covered) == "aspirin"


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_spans_are_whole_ordered_and_apart(tagger, text):
    prediction = inference.predict(text, *tagger, name="m", max_tokens=12)
    check_spans(text, prediction)


@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_spans_of_other_tokenizers_are_whole_ordered_and_apart(other, text):
    prediction = inference.predict(text, *other, name="m", max_tokens=12)
    check_spans(text, prediction)


@pytest.mark.parametrize("text", TEXTS)
def test_segments_of_a_huge_text_give_the_pieces_of_the_whole(tagger, other, text):
    for _, tokenizer in (tagger, other):
        whole = word_pieces.cut(text * 3, tokenizer)
        parts = word_pieces.cut(text * 3, tokenizer, segment=20)
        for name in ("ids", "starts", "ends"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_half_a_surrogate_pair_harms_nothing(tagger, other):
    text = "pain \ud83d in chest"
    for _, tokenizer in (tagger, other):
        assert word_pieces.cut(text, tokenizer).ends[-1] == len(text)
    check_spans(text, inference.predict(text, *tagger, name="m"))


def test_pieces_do_not_show_what_they_are(tagger):
    assert repr(word_pieces.cut("secret word", tagger[1])) == "Pieces(2)"


# The pipeline


def plain(text: str) -> str:
    """Without what words treat otherwise than the pipeline, on purpose; test_words.py says how.

    The pipeline leaves signs beyond ASCII to the word beside them, ends a word before the marks at its end, joins what
    is before and after a zero-width space or form feed, and takes "[SEP]" for one word, because BERT's tokenizer does.
    """
    usual = (each if each.isascii() or unicodedata.category(each)[0] in "LNPZ" else " " for each in text)
    return "".join(usual).translate(
        {code: " " for code in (*range(9), *range(11, 13), *range(14, 32), 91, 93, 127, 0x85, 0x200B)}
    )


@pytest.mark.parametrize("text", TEXTS)
def test_spans_equal_those_of_the_pipeline(tagger, text):
    model, tokenizer = tagger
    text = plain(text)
    expected, expected_scores = pipeline_spans(text, model, tokenizer)
    prediction = inference.predict(text, model, tokenizer, name="m")
    assert prediction.coverage.windows == 1
    assert triples(prediction) == expected
    np.testing.assert_allclose([span.score for span in prediction.spans], expected_scores, atol=1e-5)


def test_the_texts_of_the_pipeline_comparison_hold_many_spans_of_both_types(tagger):
    spans = [span for text in map(plain, TEXTS) for span in inference.predict(text, *tagger, name="m").spans]
    assert len(spans) > 40
    assert {span.label for span in spans} == {"Disease", "Chemical"}
    assert any(" " in TEXTS[0][span.start : span.end] for span in inference.predict(TEXTS[0], *tagger, name="m").spans)


@given(text=texts)
@settings(max_examples=40, deadline=None)
def test_spans_equal_those_of_the_pipeline_on_any_text(tagger, text):
    assume(all(unicodedata.ucd_3_2_0.category(each) == unicodedata.category(each) for each in text))
    text = plain(text)
    assume(len(word_pieces.cut(text, tagger[1])))
    assert triples(inference.predict(text, *tagger, name="m")) == pipeline_spans(text, *tagger)[0]


# Batches


def test_a_text_alone_and_among_others_gives_the_same(tagger):
    alone = [inference.predict(text, *tagger, name="m", max_tokens=50) for text in TEXTS]
    for batch_tokens in (1, 120, 4096):
        together = inference.predict_many(TEXTS, *tagger, name="m", max_tokens=50, batch_tokens=batch_tokens)
        for one, many in zip(alone, together, strict=True):
            assert triples(one) == triples(many)
            assert one.coverage == many.coverage
            np.testing.assert_allclose([s.score for s in one.spans], [s.score for s in many.spans], atol=1e-5)


def test_a_batch_holds_no_more_padded_pieces_than_its_budget(tagger):
    model, tokenizer = tagger
    shapes = []
    hook = model.register_forward_pre_hook(lambda _, __, kw: shapes.append(kw["input_ids"].shape), with_kwargs=True)
    inference.predict_many([*TEXTS, "short"] * 3, model, tokenizer, name="m", max_tokens=50, batch_tokens=300)
    hook.remove()
    assert len(shapes) > 3
    assert all(rows * width <= 300 for rows, width in shapes)
    assert [width for _, width in shapes] == sorted((width for _, width in shapes), reverse=True)


def thread_count_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_batches_side_by_side_give_the_same_and_leave_the_threads_as_they_were(tagger):
    options = {"name": "m", "max_tokens": 30, "batch_tokens": 120}
    alone = inference.predict_many(TEXTS, *tagger, **options)
    seen, model = set(), tagger[0]
    hook = model.register_forward_pre_hook(lambda *_: seen.add((threading.get_ident(), torch.get_num_threads())))
    torch.set_num_threads(2)
    try:
        together = inference.predict_many(TEXTS, *tagger, **options)
        assert torch.get_num_threads() == thread_count_of_a_new_thread() == 2
        with pytest.raises(inference.Cancelled):
            inference.predict_many(TEXTS, *tagger, cancelled=lambda: True, **options)
        few = inference.predict(TEXTS[0], *tagger, **options)
    finally:
        hook.remove()
        torch.set_num_threads(1)
    assert len({thread for thread, threads in seen if threads == 1}) >= 2
    # A batch of another size may round its last bit otherwise, which depends on the processor.
    for one, many in [*zip(alone, together, strict=True), (alone[0], few)]:
        assert triples(one) == triples(many)
        np.testing.assert_allclose([s.score for s in one.spans], [s.score for s in many.spans], atol=1e-5)


def test_progress_counts_windows_and_cancelled_stops(tagger):
    steps = []
    options = {"name": "m", "max_tokens": 20, "batch_tokens": 64}
    prediction = inference.predict(TEXTS[0] * 8, *tagger, progress=lambda *done: steps.append(done), **options)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (prediction.coverage.windows,) * 2
    with pytest.raises(inference.Cancelled):
        inference.predict(TEXTS[0] * 8, *tagger, cancelled=lambda: len(steps) > 0, **options)
    answers = itertools.chain([False] * 3, itertools.repeat(True))
    steps.clear()
    with pytest.raises(inference.Cancelled):
        inference.predict(
            TEXTS[0] * 8, *tagger, cancelled=lambda: next(answers), progress=lambda *done: steps.append(done), **options
        )
    assert len(steps) == 3


def test_dropout_is_off_and_training_goes_on_after(tagger):
    model, tokenizer = tagger
    expected = inference.predict(TEXTS[0], model, tokenizer, name="m")
    model.train()
    prediction = inference.predict(TEXTS[0], model, tokenizer, name="m")
    assert model.training
    assert prediction.spans == expected.spans
    model.eval()


# Readings


def test_a_text_is_read_in_windows_as_long_as_those_of_training(tagger, monkeypatch):
    model, tokenizer = tagger
    text = "Severe fever after naloxone was seen. " * 30

    def predicted(**options):
        return inference.predict(text, model, tokenizer, name="x", **options).model_copy(update={"cost": None})

    cut_off, in_short = predicted(reading="truncate"), predicted(max_tokens=32)
    assert in_short != predicted()
    monkeypatch.setattr(model.config, "document_reading", {"max_tokens": 32}, raising=False)
    assert predicted() == in_short, "windows by default"
    assert predicted(reading="truncate") == cut_off
    assert predicted(max_tokens=64) != in_short, "only there, and only by default"
    words = text.split()
    whole = inference.tag_words([words], model, tokenizer)
    assert whole == inference.tag_words([words], model, tokenizer, max_tokens=inference.model_limit(model, tokenizer))


def test_truncate_reads_the_first_window_and_says_what_it_left(tagger):
    text = TEXTS[0] * 3
    pieces = word_pieces.cut(text, tagger[1])
    prediction = inference.predict(text, *tagger, name="m", reading="truncate", max_tokens=12)
    assert (prediction.coverage.tokens, prediction.coverage.tokens_read, prediction.coverage.windows) == (
        len(pieces),
        10,
        1,
    )
    assert prediction.coverage.unread == ((int(pieces.starts[10]), len(text)),)
    assert all(span.end <= pieces.ends[9] for span in prediction.spans)
    short = inference.predict("chest pain", *tagger, name="m", reading="truncate")
    assert short.coverage.unread == ()
    assert inference.predict(text, *tagger, name="m").coverage.unread == ()


def test_whole_reads_in_one_window_or_proposes_windows(tagger):
    text = TEXTS[0]
    one = inference.predict(text, *tagger, name="m", reading="whole")
    assert one.spans == inference.predict(text, *tagger, name="m").spans
    with pytest.raises(BadSpec, match=r"up to 510 word pieces.*'windows'") as error:
        inference.predict(text * 30, *tagger, name="m", reading="whole")
    assert "metoprolol" not in str(error.value)


@pytest.mark.parametrize("text", ["", "  \r\n\t ", "\u200b\x00"])
@pytest.mark.parametrize("reading", inference.READINGS)
def test_a_text_without_pieces_gives_an_empty_prediction(tagger, text, reading):
    prediction = inference.predict(text, *tagger, name="m", reading=reading)
    assert prediction.spans == ()
    nothing = {"tokens": 0, "tokens_read": 0, "windows": 0, "unread": []}
    assert prediction.to_json()["coverage"] == nothing and prediction.coverage.seams == ()
    assert prediction.cost.latency_ms >= 0


def test_nothing_to_read_at_all(tagger):
    assert inference.predict_many([], *tagger, name="m") == []
    assert inference.tag_words([], *tagger) == []


def test_a_prediction_has_its_label_set_and_its_cost(tagger):
    prediction = inference.predict(TEXTS[0], *tagger, name="an arm")
    assert (prediction.model, prediction.task, prediction.label_set) == ("an arm", "ner", ("Chemical", "Disease"))
    assert prediction.cost.tokens_per_second == pytest.approx(
        prediction.coverage.tokens / prediction.cost.latency_ms * 1000
    )


@pytest.mark.parametrize("max_tokens", [0, 2, -5, 513, 4096])
def test_max_tokens_beyond_the_model_is_refused_with_the_range(tagger, max_tokens):
    with pytest.raises(BadSpec, match="3 to 512 word pieces"):
        inference.predict("pain", *tagger, name="m", max_tokens=max_tokens)


def test_positions_that_count_from_the_padding_index_shorten_the_limit(other):
    model, tokenizer = other
    assert inference.model_limit(model, tokenizer) == 64
    long = inference.predict(" ".join(TEXTS), model, tokenizer, name="m")  # would fail on an index out of range
    assert long.coverage.windows > 1


def test_longformer_can_read_4096():
    from transformers import AutoModelForTokenClassification, LongformerConfig

    config = LongformerConfig(
        num_hidden_layers=1, hidden_size=8, num_attention_heads=1, attention_window=8, intermediate_size=8, vocab_size=9
    )
    config.max_position_embeddings, config.pad_token_id = 4098, 1
    model = AutoModelForTokenClassification.from_config(config)
    assert inference.model_limit(model, tokenizer=None) == 4096


def test_an_unknown_reading_and_a_model_without_a_head_are_refused(tagger):
    from transformers import BertModel

    model, tokenizer = tagger
    with pytest.raises(UnknownName, match=r"windows"):
        inference.predict("pain", model, tokenizer, name="m", reading="window")
    config = type(model.config)(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8)
    with pytest.raises(BadSpec, match="no head for named entities"):
        inference.predict("pain", BertModel(config), tokenizer, name="m")


# Words that are split already


def test_tags_of_words_equal_those_of_the_pipelines_first_pieces(tagger):
    model, tokenizer = tagger
    words = ["Naïve", "metoprolol", "(", "25mg", ")", "😀", "胸", "痛", "bid", "."]
    encoded = tokenizer([words], is_split_into_words=True, return_tensors="pt")
    with torch.inference_mode():
        best = model(**encoded).logits[0].argmax(-1).tolist()
    owners = encoded.word_ids(0)
    expected = [LABELS[best[owners.index(word)]] for word in range(len(words))]
    assert inference.tag_words([words], model, tokenizer) == [expected]
    pieces = [LABELS[tag] for tag, owner in zip(best, owners, strict=True) if owner is not None]
    assert inference.tag_words([words], model, tokenizer, labelling="all") == [pieces]
    gold = [f"B-{index}" for index in range(len(words))]
    repeated = [gold[owner] for owner in owners if owner is not None]
    assert inference.expand([words], [gold], tokenizer, labelling="all") == [repeated]


def test_a_given_word_is_read_as_the_words_within_it(tagger):
    """What `expand` makes of gold tags has the places of `tag_words`: an entity begins once."""
    words, gold = ["Naïve", "COX-2", "25mg/kg"], ["O", "B-Chemical", "I-Chemical"]
    apart = ["Naïve", "COX", "-", "2", "25mg", "/", "kg"]
    assert len(inference.tag_words([words], *tagger)[0]) == len(apart)
    expected = ["O", "B-Chemical", *["I-Chemical"] * 5]
    assert inference.expand([words, apart], [gold, expected], tagger[1]) == [expected, expected]


@pytest.mark.parametrize("place", [0, 1, 3, 5])
def test_a_word_that_cannot_be_seen_has_no_tag_and_shifts_nothing(tagger, other, place):
    words = ["chest", "pain", "metoprolol", "stopped", "today"]
    for empty in ("\u200b", "\u00ad", ""):
        model, tokenizer = tagger
        expected = inference.tag_words([words], model, tokenizer)[0]
        assert len(set(expected)) > 2
        assert inference.tag_words([[*words[:place], empty, *words[place:]]], model, tokenizer) == [expected]
        gold = [*["O"] * place, "B-Disease", *["O"] * (5 - place)]
        assert inference.expand([[*words[:place], empty, *words[place:]]], [gold], tokenizer) == [["O"] * 5]
    pieces, owners = word_pieces.cut_words([*words[:place], "", *words[place:]], other[1])
    assert sorted(set(owners.tolist())) == [index for index in range(6) if index != place]
    assert len(pieces) == len(owners)


def test_the_same_words_joined_have_the_same_tags_in_a_text(other):
    """Byte-level and SentencePiece tokenizers see the blanks of running text, not words glued together (T18)."""
    model, tokenizer = other
    words = ["chest", "pain", "metoprolol", "stopped"]
    pieces, owners = word_pieces.cut_words(words, tokenizer)
    np.testing.assert_array_equal(pieces.ids, word_pieces.cut(" ".join(words), tokenizer).ids)
    starts = np.cumsum([0] + [len(word) + 1 for word in words])
    assert all(starts[o] - 1 <= s < starts[o + 1] for s, o in zip(pieces.starts, owners, strict=True))


def test_long_and_empty_sentences_go_through_the_same_windows(tagger):
    words = " ".join(TEXTS[:1] * 6).split()
    sentences = [words, [], ["pain"], words[:7]]
    tagged = inference.tag_words(sentences, *tagger, max_tokens=30)
    assert [len(tags) for tags in tagged] == [len(words_in(" ".join(words)).starts), 0, 1, 8]
    assert tagged[3] == inference.tag_words([words[:7]], *tagger)[0]
    for sentence, tags in zip(sentences, tagged, strict=True):
        assert inference.tag_words([sentence], *tagger, max_tokens=30) == [tags]


def test_an_unknown_labelling_is_refused(tagger):
    with pytest.raises(UnknownName, match="labelling"):
        inference.tag_words([["pain"]], *tagger, labelling="last")
