"""MiniALBERTs with the heads of labelled tasks, and the registration of the architecture. B: rows, n: tokens."""

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertTokenizer,
)
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from trainer.architectures.minialbert import (
    MiniAlbertConfig,
    MiniAlbertForMaskedLM,
    MiniAlbertModel,
    MiniAlbertPreTrainedModel,
)


class MiniAlbertForTask(MiniAlbertPreTrainedModel):
    """Body, dropout and a linear layer to the labels."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        self.albert = MiniAlbertModel(config)
        share = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(share)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()


class MiniAlbertForTokenClassification(MiniAlbertForTask):
    """A label for each token."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        labels: torch.Tensor | None = None,
        **options: Any,
    ) -> TokenClassifierOutput:
        """Logits (B, n, labels); with labels (B, n), -100 where there is no label, also their mean cross-entropy."""
        body = self.albert(input_ids, attention_mask, return_dict=True, **options)
        logits = self.classifier(self.dropout(body.last_hidden_state))
        loss = None if labels is None else self.loss_function(logits, labels, self.config)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=body.hidden_states, attentions=body.attentions
        )


class MiniAlbertForSequenceClassification(MiniAlbertForTask):
    """Labels for a whole text, from its first token's last state; there is no pooler in between."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        labels: torch.Tensor | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, labels); with labels also the loss that `config.problem_type` names: MSE, cross-entropy or BCE."""
        body = self.albert(input_ids, attention_mask, return_dict=True, **options)
        logits = self.classifier(self.dropout(body.last_hidden_state[:, 0]))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=body.hidden_states, attentions=body.attentions
        )


class MiniAlbertForQuestionAnswering(MiniAlbertPreTrainedModel):
    """The start and the end of an answer: a linear layer on each token's last state, as in BERT."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.albert = MiniAlbertModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **options: Any,
    ) -> QuestionAnsweringModelOutput:
        """Logits of start and end, each (B, n); with both positions (B,) also the mean of their cross-entropies."""
        body = self.albert(input_ids, attention_mask, return_dict=True, **options)
        start, end = self.qa_outputs(body.last_hidden_state).unbind(-1)
        given = start_positions is not None and end_positions is not None
        loss = self.loss_function(start, end, start_positions, end_positions) if given else None
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=start, end_logits=end, hidden_states=body.hidden_states, attentions=body.attentions
        )


def register() -> None:
    """Register the model type `minialbert` with transformers' Auto classes."""
    AutoConfig.register("minialbert", MiniAlbertConfig, exist_ok=True)
    AutoTokenizer.register(MiniAlbertConfig, BertTokenizer, exist_ok=True)
    AutoModel.register(MiniAlbertConfig, MiniAlbertModel, exist_ok=True)
    AutoModelForMaskedLM.register(MiniAlbertConfig, MiniAlbertForMaskedLM, exist_ok=True)
    AutoModelForTokenClassification.register(MiniAlbertConfig, MiniAlbertForTokenClassification, exist_ok=True)
    AutoModelForSequenceClassification.register(MiniAlbertConfig, MiniAlbertForSequenceClassification, exist_ok=True)
    AutoModelForQuestionAnswering.register(MiniAlbertConfig, MiniAlbertForQuestionAnswering, exist_ok=True)
