"""Recipes: each is a loss for the one training loop. One file per recipe, without torch.

What every recipe declares is in recipe.py, the terms that a loss is made of in terms.py.
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
