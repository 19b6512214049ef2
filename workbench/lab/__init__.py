"""The lab owns the models for interactive work: one child process of the page server.

    submit(text, arm) -> Answer with a Prediction          requests are served first come, first served
    explain(text, arm, target) -> Answer with an Explanation, its coarse form first
    ablate(text, arm, target, places) -> Answer with an Ablation

The flow: answers.py, answers and the queue of requests; server.py, which serves the queue; process.py, the child as the
server sees it; frames.py, the pipe; child.py, the child's main loop; requests.py, the work on a model, in either
process; failures.py, the errors.

Note text is only in frames and in memory: what libraries print in the child is discarded, its log holds only types and
places of errors, and it may not dump core. When the child dies, its current request fails with LabFailed and the next
one starts a new child. When the server dies, the child's input ends and it exits, even in the middle of its work.
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
