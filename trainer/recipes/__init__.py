"""Recipes: a recipe is a loss plugged into the one training loop. One file a way to train.

What a recipe declares stands in recipe.py. Nothing here needs torch.
"""

from trainer.recipes.compact import Compact
from trainer.recipes.distil import Distil
from trainer.recipes.finetune import Finetune
from trainer.recipes.minilm import MiniLM
from trainer.recipes.mlm import MaskedLM
from trainer.recipes.recipe import Recipe
from trainer.recipes.task_kd import TaskKD
from trainer.recipes.tiny import Tiny

RECIPES: dict[str, type[Recipe]] = {
    "finetune": Finetune,
    "mlm": MaskedLM,
    "distil": Distil,
    "tiny": Tiny,
    "compact": Compact,
    "minilm": MiniLM,
    "task_kd": TaskKD,
}
