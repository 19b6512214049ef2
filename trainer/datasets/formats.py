"""The kinds of data that tasks have: in words, and the endings of their files."""

from typing import NamedTuple

from trainer.datasets.readers import labelled, spans, text


class Format(NamedTuple):
    """title: what a model learns on. files: those of a folder of one's own. suffixes: the usual one first."""

    title: str
    files: str
    suffixes: tuple[str, ...]


# A .jsonl file serves two: its labels count where documents have labels, and are ignored where they are text.
FORMATS = {
    "tagged": Format("tagged words", "train.conll, dev.conll and test.conll", (".conll", *spans.SUFFIXES)),
    "text": Format("plain text", "train.txt, one document a line", text.SUFFIXES),
    "labelled": Format(
        "labelled documents", "train, dev and test as .jsonl or .csv with text and label or labels", labelled.SUFFIXES
    ),
}
