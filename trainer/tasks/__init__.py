"""Tasks: what a model is asked to do. One file a task; pages read the options without torch."""

from trainer.tasks.mlm import MLM
from trainer.tasks.ner import NER

TASKS = {"ner": NER, "mlm": MLM}
