"""Evaluation of models on spans, documents and masked words: scores, confidence intervals and cost."""
