"""The lab owns the models for interactive work: one child process of the page server.

    submit(text, arm) -> Answer with a Prediction
    explain(text, arm, target) -> Answer with an Explanation, its coarse form first
    ablate(text, arm, target, places) -> Answer with an Ablation

Requests are served in the order they came. Those about different notes, as of two sessions, are served at the same time
and take turns of a few batches, so a short note does not wait for a long one; at most LANES are.

The flow: answers.py, answers and the queue of requests; server.py, which serves the queue; process.py, the child as the
server sees it; frames.py, the pipe; child.py, the child's main loop; requests.py, the work on a model, in either
process; turns.py, who computes; failures.py, the errors.

Note text is only in frames and in memory: what libraries print in the child is discarded, its log holds only types and
places of errors, and it may not dump core. When the child dies, the request that it was computing fails with LabFailed
and the others start again in a new child. When the server dies, the child's input ends and it exits, even in the
middle of its work.
"""

import os
from functools import cache

from workbench.lab.answers import Answer
from workbench.lab.failures import LabFailed, OutOfMemory, TooLate
from workbench.lab.server import InProcessLab, Lab

__all__ = ["Answer", "InProcessLab", "Lab", "LabFailed", "OutOfMemory", "TooLate", "shared"]


@cache
def shared() -> InProcessLab:
    """The one lab of this server, for every page and session. On ZeroGPU Spaces models live in the main process."""
    return InProcessLab() if os.environ.get("SPACES_ZERO_GPU") else Lab()
