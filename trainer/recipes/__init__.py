"""Recipes: a recipe is a loss plugged into the one training loop. One file a way to train.

A recipe declares its options, `kind` (the kind of job it belongs to), `tasks` (what it can train; the first is the
default) and `plan(student layers, teacher layers)`: the weighted terms of training.losses. Nothing here needs torch.
"""

from trainer.recipes.compact import Compact
from trainer.recipes.distil import Distil
from trainer.recipes.finetune import Finetune
from trainer.recipes.minilm import MiniLM
from trainer.recipes.mlm import MaskedLM
from trainer.recipes.task_kd import TaskKD
from trainer.recipes.tiny import Tiny

RECIPES = {
    "finetune": Finetune,
    "mlm": MaskedLM,
    "distil": Distil,
    "tiny": Tiny,
    "compact": Compact,
    "minilm": MiniLM,
    "task_kd": TaskKD,
}
