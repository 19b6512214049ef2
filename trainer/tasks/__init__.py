"""Tasks: what a model is asked to do. One file a task; pages read the options without torch.

A task declares its options, `head` (the output layer it needs), `score` (what a model is chosen by, on dev), `labelled`
(whether its data have labels), `level` and `unit` (what its scores count, in words), and `open(data set)`: the splits.
"""

from trainer.tasks.classification import Classification
from trainer.tasks.mlm import MLM
from trainer.tasks.ner import NER

TASKS = {"ner": NER, "classification": Classification, "mlm": MLM}
LABELLED = tuple(name for name, task in TASKS.items() if task.labelled)  # those whose models say something of a note
