"""Fine-tuning: the task's own loss against gold labels."""

from typing import Literal

from trainer.prediction import Plain


class Finetune(Plain):
    """Train every weight on labelled data."""

    name: Literal["finetune"] = "finetune"
