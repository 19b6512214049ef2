"""The word pieces of a text by the name that scripts and notebooks use: `from trainer.pieces import cut`."""

from trainer.datasets.rows.pieces import Pieces, cut

__all__ = ["Pieces", "cut"]
