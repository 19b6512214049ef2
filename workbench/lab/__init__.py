"""The lab owns the models for interactive work: one child process that the page server spawns once.

    submit(text, arm) -> Answer with a Prediction          requests are served in the order they came
    explain(text, arm, target) -> Answer with an Explanation, its coarse form first
    ablate(text, arm, target, places) -> Answer with an Ablation

The flow: answers.py, who waits in which place; server.py, where the line is served; process.py, the child as the server
sees it; frames.py, the pipe; child.py, what the child does; requests.py, what is done with a model, here or there;
failures.py, what can go wrong.

Note text is in the frames and in memory, and nowhere else: what libraries print in the child goes nowhere, its log
holds types and places of errors, and it may not dump core. When the child dies, the request it was at fails with
LabFailed and the next one starts a fresh child. When the server dies, the child's input ends and it exits, also in
mid-work.
"""

import os
from functools import cache

from workbench.lab.answers import Answer
from workbench.lab.failures import LabFailed, OutOfMemory, TooLate
from workbench.lab.server import InProcessLab, Lab

__all__ = ["Answer", "InProcessLab", "Lab", "LabFailed", "OutOfMemory", "TooLate", "shared"]


@cache
def shared() -> InProcessLab:
    """The one lab of this server; every page and session asks it. On ZeroGPU Spaces models live in the main process."""
    return InProcessLab() if os.environ.get("SPACES_ZERO_GPU") else Lab()
