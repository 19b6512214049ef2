"""How well a model does: scores of spans, documents and masked words, with intervals and what they cost."""
