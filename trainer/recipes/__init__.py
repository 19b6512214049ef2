"""Recipes: a recipe is a loss plugged into the one training loop. One file a way to train."""

from trainer.recipes.finetune import Finetune

RECIPES = {"finetune": Finetune}
