"""Fine-tuning: the task's own loss against gold labels."""

from typing import TYPE_CHECKING, Literal

from trainer.prediction import Plain

if TYPE_CHECKING:
    import torch


class Finetune(Plain):
    """Train every weight on labelled data."""

    name: Literal["finetune"] = "finetune"

    @staticmethod
    def loss(batch: dict, student: "torch.nn.Module", *, task: Plain) -> dict[str, "torch.Tensor"]:
        """The terms of the loss; "loss" is what is minimised.

        batch: input_ids, attention_mask and labels, each (rows, tokens).
        """
        output = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return {"loss": task.loss(output.logits, batch["labels"])}
