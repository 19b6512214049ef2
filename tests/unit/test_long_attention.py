"""Fast attention of Longformer and BigBird: transformers' numbers at every length, in memory in proportion to it."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BigBirdConfig, LongformerConfig

from trainer import models
from trainer.architectures import GELUTanh, bigbird, blocks, global_attention, longformer, quicken
from trainer.errors import Unavailable, UnknownName
from trainer.models import seeded
from trainer.recipes import RECIPES
from trainer.training.objective import Objective
from trainer.zoo import entries

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
WINDOWS = [8, 4]
LONG = {"attention_window": WINDOWS, "max_position_embeddings": 130, "pad_token_id": 1}
BLOCKS = {"block_size": 4, "num_random_blocks": 2, "max_position_embeddings": 128, "sep_token_id": 2}
SHORT = (5 + 2 * 2) * 4  # what a BigBird of these sizes still computes in full
LENGTHS = {"longformer": (1, 3, 4, 5, 8, 9, 11, 17, 19, 43, 64), "big_bird": (1, 7, SHORT, SHORT + 1, 40, 61, 64, 77)}
HEADS = {
    "longformer": {"encoder": transformers.LongformerModel, "mlm": transformers.LongformerForMaskedLM},
    "big_bird": {"encoder": transformers.BigBirdModel, "mlm": transformers.BigBirdForMaskedLM},
}
CASES = [(kind, length) for kind, lengths in LENGTHS.items() for length in lengths]


def config_of(kind, **changes):
    return (
        LongformerConfig(**SIZES | LONG | changes)
        if kind == "longformer"
        else BigBirdConfig(**SIZES | BLOCKS | changes)
    )


def pair(kind, head="encoder", **changes):
    """transformers' model and ours, with the same weights; norms and biases are random too."""
    with seeded(0), torch.no_grad():
        theirs = HEADS[kind][head](config_of(kind, **changes)).eval()
        for parameter in theirs.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.5, 0.3)
    return theirs, quicken(copy.deepcopy(theirs))


def inputs_of(kind, tokens, *, rows=4, marked=(0, "middle", "last"), seed=0):
    """Rows of many shapes: whole, half padded, one whose padding is at the start, one of padding alone."""
    ids = torch.randint(5, 50, (rows, tokens), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, max(1, tokens // 2) :] = 0
    mask[2, : tokens // 3] = 0
    mask[3] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "longformer":
        flags = torch.zeros_like(ids)
        places = {"middle": tokens // 2, "last": tokens - 1}
        flags[0, [places.get(place, place) for place in marked]] = 1
        flags[2, -1] = flags[3, 0] = 1
        inputs["global_attention_mask"] = flags
    return inputs


def real(inputs):
    """What is compared: also padding of rows that have a token; a row of padding alone means nothing."""
    return inputs["attention_mask"].any(1)


# The numbers of transformers


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "tokens"), CASES)
def test_states_and_gradients_are_those_of_transformers(kind, tokens, training):
    sides, inputs = pair(kind), inputs_of(kind, tokens)
    rows = real(inputs)
    results = []
    for model in sides:
        output = model.train(training)(**inputs, output_hidden_states=True)
        weight = torch.randn(output.last_hidden_state.shape, generator=torch.Generator().manual_seed(1))
        (output.last_hidden_state * weight)[rows].sum().backward()
        assert torch.isfinite(output.last_hidden_state).all()
        # transformers pads the levels of a BigBird and does not cut them again
        results.append([*(state[rows, :tokens] for state in output.hidden_states), output.pooler_output[rows]])
    assert len(results[0]) == len(results[1]) == 4
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for (name, theirs), ours in zip(sides[0].named_parameters(), sides[1].parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None or not ours.grad.any(), name
        else:
            scale = 1 + theirs.grad.abs().max()
            torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, rtol=0, atol=2e-5, msg=name)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "tokens"), [("longformer", 5), ("longformer", 43), ("big_bird", 7), ("big_bird", 61)])
def test_they_are_without_torchs_private_kernels_too(kind, tokens, training, no_private_operators):
    test_states_and_gradients_are_those_of_transformers(kind, tokens, training)
    assert blocks.kernels() is None


@pytest.mark.parametrize("kind", HEADS)
def test_a_whole_model_gives_the_same_outputs_and_keeps_its_names(kind):
    theirs, ours = pair(kind, "mlm")
    inputs = inputs_of(kind, 45)
    with torch.no_grad():
        torch.testing.assert_close(ours(**inputs).logits[:3], theirs(**inputs).logits[:3], rtol=0, atol=1e-4)
        plain = [model(input_ids=inputs["input_ids"]).logits for model in (theirs, ours)]
        tuples = [model(**inputs, output_hidden_states=True, return_dict=False) for model in (theirs, ours)]
    torch.testing.assert_close(*plain, rtol=0, atol=1e-4)
    assert list(map(type, tuples[0])) == list(map(type, tuples[1])) == [torch.Tensor, tuple]
    torch.testing.assert_close(tuples[1][0][:3], tuples[0][0][:3], rtol=0, atol=1e-4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert type(ours) is type(theirs) and type(ours.base_model).__name__ == type(theirs.base_model).__name__


@pytest.mark.parametrize("kind", HEADS)
def test_embeddings_may_be_given(kind):
    theirs, ours = pair(kind)
    inputs = inputs_of(kind, 45) | {"position_ids": torch.arange(2, 47).expand(4, -1)}
    embeddings = theirs.get_input_embeddings()(inputs.pop("input_ids"))
    with torch.no_grad():
        states = [model(inputs_embeds=embeddings, **inputs).last_hidden_state[:3] for model in (theirs, ours)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)


def dense(query, key, value, allowed):
    scores = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    return torch.softmax(scores.masked_fill(~allowed, float("-inf")), -1) @ value


def test_a_window_over_everything_is_dense_attention():
    layer = pair("longformer", attention_window=[40, 40])[1].encoder.layer[0].attention.self
    states = torch.randn(2, 15, 32)
    tokens = longformer.Tokens(torch.ones(2, 15, dtype=torch.bool), torch.zeros(2, 15, dtype=torch.bool))
    heads = [part(states).view(2, 15, 4, 8).transpose(1, 2) for part in (layer.query, layer.key, layer.value)]
    expected = dense(*heads, torch.ones(15, 15, dtype=torch.bool)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(states, tokens)[0], expected)


# The last block of a BigBird is global, so that its pattern depends on the length: what is computed in full does not.
@pytest.mark.parametrize(
    ("kind", "tokens"), [("longformer", 5), ("longformer", 30), ("longformer", 63), ("big_bird", 5), ("big_bird", 25)]
)
def test_padding_changes_nothing(kind, tokens):
    _, model = pair(kind)
    inputs = {name: values[:1, :tokens] for name, values in inputs_of(kind, 64, marked=(0,)).items()}
    wide = {name: pad(values, (0, 9), value=7 * (name == "input_ids")) for name, values in inputs.items()}
    with torch.no_grad():
        alone, padded = (model(**each).last_hidden_state[:, :tokens] for each in (inputs, wide))
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-5)


CUT = {  # of 64 or 24 tokens so many are kept, and so many computed
    "longformer": [(64, 1, 1), (64, 2, 2), (64, 8, 8), (64, 9, 10), (64, 32, 32), (64, 33, 34)],
    "big_bird": [(24, 9, 12), (64, 1, 4), (64, 5, 8), (64, 57, 60), (64, 60, 60), (64, 61, 64), (63, 61, 64)],
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "tokens", "columns", "computed"), [(kind, *cut) for kind in CUT for cut in CUT[kind]])
def test_padding_at_the_end_of_all_rows_is_not_computed(kind, tokens, columns, computed, training, monkeypatch):
    sides, inputs = pair(kind), {name: values[:3] for name, values in inputs_of(kind, tokens).items()}
    inputs["attention_mask"] = torch.zeros_like(inputs["input_ids"])
    inputs["attention_mask"][1, : columns // 2] = inputs["attention_mask"][0, :columns] = 1
    real = inputs["attention_mask"].bool()
    weight = torch.randn(3, tokens, 32, generator=torch.Generator().manual_seed(1)) * real[..., None]
    layer = {"longformer": longformer.LongformerSelfAttention, "big_bird": bigbird.BigBirdBlockSparseAttention}[kind]
    lengths, attention = [], layer.forward

    def recorded(self, states, *rest, **more):
        lengths.append(states.shape[1])
        return attention(self, states, *rest, **more)

    monkeypatch.setattr(layer, "forward", recorded)
    outputs = [model.train(training)(**inputs, output_hidden_states=True) for model in sides]
    for output in outputs:
        (output.last_hidden_state * weight).sum().backward()
    assert lengths == [computed] * 2
    for theirs, ours in zip(*(output.hidden_states for output in outputs), strict=True):
        assert ours.shape[1] == tokens and not ours[:, computed:].any()
        torch.testing.assert_close(ours[real], theirs[:, :tokens][real], rtol=0, atol=1e-5)
    for theirs, ours in zip(*(model.parameters() for model in sides), strict=True):
        if theirs.grad is not None and ours.grad is not None:
            scale = 1 + theirs.grad.abs().max()
            torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, rtol=0, atol=2e-5)


def test_a_row_of_drawn_blocks_is_independent_of_a_full_row():
    _, model = pair("big_bird", seeded_blocks=True)
    inputs = inputs_of("big_bird", 64, rows=4)
    with torch.no_grad():
        alone, beside = (model(**{name: values[part] for name, values in inputs.items()}) for part in ([1], [0, 1]))
    torch.testing.assert_close(alone.last_hidden_state[0, :32], beside.last_hidden_state[1, :32], rtol=0, atol=1e-5)
    assert not alone.last_hidden_state[0, 32:].any() and beside.last_hidden_state[1, 32:].any()


@pytest.mark.parametrize("kind", HEADS)
def test_a_feed_forward_part_in_pieces_gives_the_same(kind, monkeypatch):
    theirs, ours = pair(kind)
    inputs, pieces = inputs_of(kind, 60), []
    monkeypatch.setattr(blocks, "PIECE", 8)
    ours.encoder.layer[1].intermediate.register_forward_hook(
        lambda _, arguments, __: pieces.append(arguments[0].shape[1])
    )
    with torch.no_grad():
        states = [model(**inputs).last_hidden_state[:3] for model in (theirs, ours)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)
    assert pieces == [8] * 7 + [4]
    ours(**inputs)
    assert pieces[8:] == [60]  # with gradients all is kept anyway


def test_layers_may_have_blocks_that_do_not_divide_each_other():
    _, model = pair("longformer", attention_window=[12, 8])  # blocks of 3 and of 2 tokens
    inputs = inputs_of("longformer", 24, marked=(0,))
    inputs["attention_mask"][1, :15] = 1  # and padding after these
    with torch.no_grad():
        beside = model(**inputs).last_hidden_state[1, :15]
        alone = model(**{name: value[1:2, :15] for name, value in inputs.items()}).last_hidden_state[0]
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_a_row_does_not_see_its_neighbours(kind):
    _, model = pair(kind)
    inputs = inputs_of(kind, 61)
    with torch.no_grad():
        together = model(**inputs).last_hidden_state
        alone = [
            model(**{name: value[row, None] for name, value in inputs.items()}).last_hidden_state for row in range(3)
        ]
    real = inputs["attention_mask"][:3].bool()  # a Longformer does not compute the end of a batch where all is padding
    torch.testing.assert_close(together[:3][real], torch.cat(alone)[real], rtol=0, atol=1e-5)


# Dropout, number formats


@pytest.mark.parametrize("kind", HEADS)
def test_dropout_is_unbiased_and_leaves_the_generator_one_step_on(kind):
    _, model = pair(kind, attention_probs_dropout_prob=0.2)
    tokens = 20  # in full for a BigBird, which has no dropout in its sparse attention
    inputs = {name: values[:1] for name, values in inputs_of(kind, tokens).items()}
    layer = model.encoder.layer[0].attention.self
    with torch.no_grad():
        states = model.embeddings(inputs["input_ids"])
        if kind == "longformer":
            layouts = (longformer.Tokens(torch.ones(1, 20, dtype=torch.bool), inputs["global_attention_mask"] > 0),)
        else:
            every = bigbird.Tokens(torch.ones(1, 20, dtype=torch.bool), size=4, blocks=None)
            layouts = (every,)
        expected = layer(states, *layouts)[0]
        model.train()
        if kind == "big_bird":
            layouts = (bigbird.Tokens(every.real, size=4, blocks=None, dropout=0.2),)
        seen = torch.stack([layer(states, *layouts)[0] for _ in range(400)])
    assert seen.std(0).mean() > 0.01
    torch.testing.assert_close(seen.mean(0), expected, rtol=0, atol=0.15 * float(expected.std() + 1))


@pytest.mark.parametrize("kind", HEADS)
def test_training_with_dropout_repeats_from_a_seed(kind):
    _, model = pair(kind, "mlm", attention_probs_dropout_prob=0.2, hidden_dropout_prob=0.1)
    model.train()
    losses = []
    for seed, drawn_between in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(seed)
        model.zero_grad()
        loss = model(**inputs_of(kind, 30)).logits[:3].square().mean()
        torch.rand(drawn_between)  # what else is drawn before the backward pass makes no difference
        loss.backward()
        losses.append(model.base_model.encoder.layer[0].attention.self.key.weight.grad.clone())
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_dropout_of_a_global_token_reaches_the_bias_of_its_values():
    model = pair("longformer", attention_probs_dropout_prob=0.3)[1]
    layer = model.encoder.layer[0].attention.self.train()
    with torch.no_grad():
        layer.value_global.weight.zero_()
        layer.value_global.bias.fill_(1.0)
        real, flagged = torch.ones(1, 20, dtype=torch.bool), torch.arange(20)[None] == 0
        seen = layer(torch.randn(1, 20, 32), longformer.Tokens(real, flagged))[0][0, 0]  # the shares that are left
    assert seen.std() > 0.01 and abs(seen.mean() - 1) < 0.5


@pytest.mark.parametrize("kind", HEADS)
def test_half_precision_and_autocast(kind):
    _, model = pair(kind)
    inputs = inputs_of(kind, 61)
    with torch.no_grad():
        exact = model(**inputs).last_hidden_state[:3]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(**inputs).last_hidden_state
    mixed[:3].float().square().sum().backward()
    assert torch.isfinite(mixed).all() and torch.isfinite(model.encoder.layer[0].attention.self.key.weight.grad).all()
    with torch.no_grad():
        half = copy.deepcopy(model).bfloat16()(**inputs).last_hidden_state
    for states in (mixed[:3].detach(), half[:3]):
        assert (states.float() - exact).abs().mean() < 0.05 * exact.abs().mean() + 0.05


@pytest.mark.parametrize("kind", HEADS)
def test_gradient_checkpointing_gives_the_same_gradients(kind):
    _, model = pair(kind, "mlm")
    inputs, gradients = inputs_of(kind, 61), []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.train().zero_grad()
        model(**inputs).logits[:3].square().mean().backward()
        gradients.append(model.base_model.encoder.layer[0].attention.self.query.weight.grad.clone())
    torch.testing.assert_close(*gradients)


# BigBird's blocks


def test_transformers_counts_the_first_block_four_times_in_evaluation():
    """With 3 random blocks, all of them number 0, the first block adds up fourfold."""
    theirs, _ = pair("big_bird", num_random_blocks=3, max_position_embeddings=64)
    states = torch.randn(1, 64, 32)
    inner = theirs.encoder.layer[0].attention.self
    masks = theirs.create_masks_for_block_sparse_attn(torch.ones(1, 64), 4)
    shown = inner(states, masks[1], masks[2], masks[3], masks[0], masks[0])[0]
    query, key, value = (
        part(states).view(1, 64, 4, 8).transpose(1, 2) for part in (inner.query, inner.key, inner.value)
    )
    scores = query[:, :, 24:28] @ key.transpose(-1, -2) * 8**-0.5  # block 6
    weight = torch.zeros(64)
    weight[20:32] = weight[60:] = 1
    weight[:4] = 4
    shares = scores.exp() * weight
    expected = (shares / shares.sum(-1, keepdim=True)) @ value
    torch.testing.assert_close(shown[:, 24:28], expected.transpose(1, 2).flatten(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [48, 1024])
def test_training_takes_the_blocks_of_transformers_and_no_random_number(length):
    theirs, ours = pair("big_bird", max_position_embeddings=1024)
    inputs = {name: values[:1] for name, values in inputs_of("big_bird", length).items()}
    bigbird.library_blocks.cache_clear()
    np.random.seed(7)
    expected = np.random.rand(3)
    np.random.seed(7)
    with torch.no_grad():
        mine = ours.train()(**inputs).last_hidden_state
        assert np.array_equal(np.random.rand(3), expected), "NumPy's generator is as it was"
        torch.testing.assert_close(mine, theirs.train()(**inputs).last_hidden_state, rtol=0, atol=1e-5)
        assert not torch.allclose(mine, ours.eval()(**inputs).last_hidden_state, atol=1e-3)


@pytest.mark.parametrize("name", bigbird.DRAWING)
def test_where_transformers_draws_no_blocks_ours_are_taken(name, monkeypatch):
    model, inputs = pair("big_bird")[1], inputs_of("big_bird", 64)
    monkeypatch.delattr(bigbird.library.BigBirdBlockSparseAttention, name)
    bigbird.library_blocks.cache_clear()
    with torch.no_grad():
        drawn = model.train()(**inputs).last_hidden_state
        model.encoder.config.seeded_blocks = model.config.seeded_blocks = True
        assert torch.equal(drawn, model(**inputs).last_hidden_state)
    bigbird.library_blocks.cache_clear()


def test_a_short_batch_does_not_change_the_next_long_one():
    theirs, ours = pair("big_bird")
    long, short = inputs_of("big_bird", 64), inputs_of("big_bird", 12)
    with torch.no_grad():
        before = ours(**long).last_hidden_state
        ours(**short)
        assert torch.equal(ours(**long).last_hidden_state, before)
        theirs(**short)
        assert not torch.allclose(theirs(**long).last_hidden_state[:2], before[:2], atol=1e-3), "trap T20"


def test_seeded_blocks_are_drawn_once_distinct_and_elsewhere():
    blocks_of = bigbird.draw(1, 3, 20, 4)  # heads, query blocks 1 to 18, chosen
    assert blocks_of.shape == (3, 18, 4)
    for block, lines in enumerate(blocks_of.transpose(0, 1).tolist(), start=1):
        for line in lines:
            assert len(set(line)) == 4 and not set(line) & {0, block - 1, block, block + 1, 19}
    assert not torch.equal(blocks_of, bigbird.draw(2, 3, 20, 4)) and not torch.equal(blocks_of[0], blocks_of[1])
    _, usual = pair("big_bird")
    _, seeded_one = pair("big_bird", seeded_blocks=True)
    inputs = inputs_of("big_bird", 64)
    with torch.no_grad():
        evaluated = seeded_one(**inputs).last_hidden_state
        assert torch.equal(evaluated, seeded_one.train()(**inputs).last_hidden_state), "training sees the same blocks"
        assert not torch.allclose(evaluated[:2], usual(**inputs).last_hidden_state[:2], atol=1e-3)


# Where it is used


def small(kind):
    entry = entries()["clinical-longformer" if kind == "longformer" else "clinical-bigbird"]
    return entry.model_copy(update={"architecture": entry.architecture | config_of(kind).to_diff_dict()})


@pytest.mark.parametrize("kind", HEADS)
def test_it_is_on_by_default_and_one_variable_turns_it_off(kind, monkeypatch, tmp_path, tiny_model):
    entry = small(kind).model_copy(update={"architecture": small(kind).architecture | {"vocab_size": 30522}})
    built = models.build(entry)
    ours = {module for module in map(type, built.modules()) if module.__module__.startswith("trainer.architectures.")}
    assert len(ours) == 3
    models.save(built, models.load(str(tiny_model))[1], tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == [type(built).__name__]
    loaded, _ = models.load(str(tmp_path / "saved"))
    assert ours <= set(map(type, loaded.modules()))
    ids = torch.randint(5, 50, (1, 61))
    monkeypatch.setenv("STILLROOM_ATTENTION", "transformers")
    theirs, _ = models.load(str(tmp_path / "saved"))
    assert not any(module.__module__.startswith("trainer.") for module in map(type, theirs.modules()))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, theirs(ids).logits, rtol=0, atol=1e-4)
    monkeypatch.setenv("STILLROOM_ATTENTION", "slow")
    with pytest.raises(UnknownName, match="fast, transformers"):
        models.load(str(tmp_path / "saved"))


def test_a_bigbird_that_is_full_stays_as_it_is():
    model = transformers.BigBirdModel(config_of("big_bird", attention_type="original_full"))
    quick = quicken(copy.deepcopy(model))
    changed = {
        type(ours)
        for ours, theirs in zip(quick.modules(), model.modules(), strict=True)
        if type(ours) is not type(theirs)
    }
    assert changed == {GELUTanh}


@pytest.mark.parametrize("config", [transformers.AlbertConfig, transformers.BertConfig])
def test_gelu_new_is_one_operator_with_the_same_numbers(config):
    with seeded(0):
        theirs = transformers.AutoModel.from_config(config(**SIZES, embedding_size=16, hidden_act="gelu_new")).eval()
    ours, ids = quicken(copy.deepcopy(theirs)), torch.randint(5, 50, (2, 9))
    assert any(type(module) is GELUTanh for module in ours.modules())
    states = [model(ids).last_hidden_state for model in (theirs, ours)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)
    for state in states:
        state.square().sum().backward()
    gradients = [[p.grad for p in model.parameters() if p.grad is not None] for model in (theirs, ours)]
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
    operators = {event.name for event in _profiled(lambda: ours(ids))}
    assert "aten::gelu" in operators and "aten::pow" not in operators


def _profiled(call):
    with torch.profiler.profile() as profile:
        call()
    return profile.events()


@pytest.mark.parametrize("kind", HEADS)
def test_attention_maps_are_refused_and_the_way_out_is_named(kind):
    _, model = pair(kind, "mlm")
    with pytest.raises(Unavailable) as error:
        model(**inputs_of(kind, 20), output_attentions=True)
    assert "STILLROOM_ATTENTION=transformers" in error.value.next_step


def test_global_tokens_follow_the_task():
    _, model = pair("longformer")
    batch = {"input_ids": torch.ones(2, 6, dtype=torch.long)}
    assert global_attention(model, batch, "ner") == global_attention(model, batch, "mlm") == {}
    chosen = global_attention(model, batch, "classification")["global_attention_mask"]
    assert chosen.tolist() == [[1, 0, 0, 0, 0, 0]] * 2
    assert global_attention(model, batch, "questions")["global_attention_mask"].tolist() == chosen.tolist()
    batch["question_mask"] = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    assert global_attention(model, batch, "questions")["global_attention_mask"].equal(batch["question_mask"])
    assert global_attention(model, batch, "classification")["global_attention_mask"].tolist() == chosen.tolist()
    assert global_attention(pair("big_bird")[1], batch, "classification") == {}


@pytest.mark.parametrize("kind", HEADS)
def test_an_objective_trains_it(kind):
    _, model = pair(kind, "mlm", attention_probs_dropout_prob=0.1)
    objective = Objective(model, RECIPES["mlm"]().plan(2, 2), head="mlm").train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    inputs = {name: values[:2] for name, values in inputs_of(kind, 61).items() if name != "global_attention_mask"}
    labels = torch.where(torch.arange(61) % 3 == 0, inputs["input_ids"], -100)
    losses = []
    for _ in range(12):
        loss = objective(inputs | {"labels": labels})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


PEAK = """
import sys, psutil, torch
from transformers import BigBirdConfig, BigBirdModel, LongformerConfig, LongformerModel
from trainer.architectures import quicken
from trainer.evaluation.cost import peak_bytes
kind, tokens = sys.argv[1], int(sys.argv[2])
sizes = dict(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
if kind == "longformer":
    model = LongformerModel(LongformerConfig(**sizes, attention_window=128, max_position_embeddings=tokens + 2))
else:
    model = BigBirdModel(BigBirdConfig(**sizes, block_size=16, max_position_embeddings=tokens, sep_token_id=2))
quicken(model).train()
ids = torch.randint(5, 50, (1, tokens))
model(ids[:, :512]).last_hidden_state.sum().backward()
before = psutil.Process().memory_info().rss
model(ids).last_hidden_state.sum().backward()
print(peak_bytes(torch.device("cpu")) - before)
"""


class LargestTensor(TorchDispatchMode):
    """In its block, the bytes of the largest tensor that any operator returns."""

    nbytes = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **kwargs or {})
        tensors = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        self.nbytes = max(self.nbytes, *(each.untyped_storage().nbytes() for each in tensors), 0)
        return result


@pytest.mark.parametrize("kind", HEADS)
def test_no_tensor_grows_with_the_square_of_the_length(kind):
    def largest(tokens):
        _, ours = pair(kind, max_position_embeddings=tokens + 2)
        ids = inputs_of(kind, tokens, rows=4)["input_ids"][:1]
        with LargestTensor() as seen:
            ours.train()(ids).last_hidden_state.sum().backward()
        return seen.nbytes

    assert largest(1024) <= 2.1 * largest(512)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["big_bird", "longformer"])
def test_memory_grows_with_the_length_and_not_with_its_square(kind):
    def peak(tokens):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, kind, str(tokens)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-1000:]
        return int(done.stdout)

    # The mask of all pairs alone, at one byte a pair, would be 268 MB.
    assert peak(16384) < 150e6
