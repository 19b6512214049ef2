"""Architectures that transformers lacks. Importing this package makes them known to its Auto classes.

An entry is a model type and the function that registers its configuration and models. Needs torch.
"""

from trainer.architectures import minialbert

ARCHITECTURES = {"minialbert": minialbert.register}

for register in ARCHITECTURES.values():
    register()
