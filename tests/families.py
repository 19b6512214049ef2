"""A tiny model of every family of architectures with random weights: what tests of heads share."""

import torch
from transformers import CONFIG_MAPPING

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


def family(name: str, mapping, own: type):
    """A tiny model of a family, its head and biases random too: fresh biases are zero and would hide a mistake."""
    config = MiniAlbertConfig(**FAMILIES[name]) if name == "minialbert" else CONFIG_MAPPING[name](**FAMILIES[name])
    config.num_labels = 5
    torch.manual_seed(0)
    network = (own if name == "minialbert" else mapping[type(config)])(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network
