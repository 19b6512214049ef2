"""Dropout that draws its noise quickly on the CPU: a tenth of a small model's training step otherwise goes into it.

torch draws one random number an element there, with one thread. Sixteen bits an element are plenty: four elements share
one 64-bit number, and the probability is right to 1/65,536.
"""

import torch

LEVELS = 1 << 16


def drop(input: torch.Tensor, p: float) -> torch.Tensor:
    """Zero a share `p` of `input` (any shape, floating point) and scale the rest, with 16-bit noise on the CPU.

    The kept share is rounded to 1/65,536, and what is kept is scaled by its exact inverse, so the mean is unbiased.
    """
    dropped = round(p * LEVELS)
    if input.device.type != "cpu" or not 0 < dropped < LEVELS:
        return torch.nn.functional.dropout(input, p)
    words = torch.empty((input.numel() + 3) // 4, dtype=torch.int64)
    noise = words.random_(-(2**63), None).view(torch.int16)[: input.numel()].view(input.shape)
    kept = noise >= dropped - LEVELS // 2
    return input * kept.to(input.dtype).mul_(LEVELS / (LEVELS - dropped))


class QuickDropout(torch.nn.Dropout):
    """nn.Dropout with the noise of `drop`; in eval mode the same as it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: any shape, floating point; the output has the same shape."""
        return drop(input, self.p) if self.training else input


def quicken(model: torch.nn.Module) -> None:
    """Put QuickDropout in place of every nn.Dropout of `model`; parameters and state dict stay as they are."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Dropout:
                setattr(parent, name, QuickDropout(child.p).train(child.training))
