"""A tiny model of every family of architectures with random weights: what tests of heads share."""

from functools import cache

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from trainer.architectures.minialbert import MiniAlbertConfig

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 2}
FAMILIES = {
    "bert": SIZES,
    "distilbert": {"vocab_size": 60, "dim": 32, "n_heads": 4, "hidden_dim": 48, "n_layers": 2},
    "mobilebert": SIZES | {"embedding_size": 16, "intra_bottleneck_size": 16},
    "roberta": SIZES,
    "longformer": SIZES | {"attention_window": 4, "max_position_embeddings": 66, "pad_token_id": 1},
    "big_bird": SIZES | {"attention_type": "original_full", "max_position_embeddings": 64},
    "modernbert": SIZES
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    "ultrabert": SIZES | {"prediction_head_size": 24, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "albert": SIZES | {"embedding_size": 16},
    "minialbert": SIZES | {"embedding_size": 16},
}


def family(name: str, mapping, kind: type, labels: int = 5):
    """A tiny model of a family, its head and biases random too: fresh biases are zero and would hide a mistake."""
    config = MiniAlbertConfig(**FAMILIES[name]) if name == "minialbert" else CONFIG_MAPPING[name](**FAMILIES[name])
    config.num_labels = labels
    torch.manual_seed(0)
    network = (kind if name == "minialbert" else mapping[type(config)])(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


# Fields that hold a size, in whatever architecture, and a small value of each.
SMALL = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "word_embed_proj_dim"), 32
    ),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_inner", "d_ff", "n_inner", "dff", "ffn_dim"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("head_dim", "d_kv", "kv_lora_rank", "q_lora_rank", "v_head_dim"), 8),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), 8),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "sliding_window"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **{
        "entity_vocab_size": 8,
        "entity_emb_size": 8,
        "rotary_dim": 4,
        "num_hash_buckets": 64,
        "prediction_head_size": 24,
    },
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
}
# Architectures whose sizes depend on each other in their own way.
ODD = {
    "axk1": {"n_group": 1, "topk_group": 1},
    "gpt_neo": {"attention_types": [[["global"], 2]]},
    "longformer": {"attention_window": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mistral4": {"head_dim": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16},
    "neomme": {"head_dim": 16},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"]},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"]},
}


def small_config(kind: str, **options):
    """A configuration of any architecture that transformers knows, small enough to compute with in a blink."""
    cls = CONFIG_MAPPING[kind]
    names = cls().to_dict().keys() | cls.attribute_map.keys()
    chosen = {name: size for name, size in SMALL.items() if name in names and cls.attribute_map.get(name) not in SMALL}
    return cls(**chosen | ODD.get(kind, {}) | options)


def small_tokenizer(**options):
    """A tokenizer of a dozen words whose ids any small model has, with [CLS] before and [SEP] after a text."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *"abcdefgh"]
    cutter = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    cutter.pre_tokenizer = Whitespace()
    special = [("[CLS]", 1), ("[SEP]", 2)]
    cutter.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=cutter, mask_token="[MASK]", model_max_length=64, **named | options)


@cache
def typed_tokenizer():
    """As of a BERT, with token types; its padding id is that of a RoBERTa, which counts positions by it."""
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    cutter = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    cutter.pre_tokenizer = Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    templates = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
    cutter.post_processor = TemplateProcessing(**templates, special_tokens=special)
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=cutter, model_input_names=names, model_max_length=64, **named)
