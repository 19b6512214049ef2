"""The kinds of data that tasks use: their names in words, and the endings of their files."""

from typing import NamedTuple

from trainer.datasets.readers import labelled, pairs, questions, related, roles, spans, text, values


class Format(NamedTuple):
    """A kind of data.

    title: its name in words. files: the files that a user's own folder needs. suffixes: of files, the usual one first.
    """

    title: str
    files: str
    suffixes: tuple[str, ...]


# A .jsonl file is of two kinds: its labels are used where documents have labels, and ignored where they are text. Its
# first row tells whether it is of one of the other kinds.
FORMATS = {
    "tagged": Format("tagged words", "train.conll, dev.conll and test.conll", (".conll", *spans.SUFFIXES)),
    "text": Format("plain text", "train.txt, one document a line", text.SUFFIXES),
    "labelled": Format(
        "labelled documents", "train, dev and test as .jsonl or .csv with text and label or labels", labelled.SUFFIXES
    ),
    "pairs": Format(
        "labelled pairs of texts",
        "train, dev and test as .jsonl, .tsv or .csv with premise, hypothesis and label",
        pairs.SUFFIXES,
    ),
    "questions": Format(
        "questions with answers in a text", "train.json, dev.json and test.json in SQuAD form", questions.SUFFIXES
    ),
    "related": Format(
        "related mentions",
        "train, dev and test as .spans.jsonl, .pubtator or BRAT folders with relations, or as .jsonl or .tsv with one "
        "pair per row",
        related.SUFFIXES,
    ),
    "roles": Format(
        "texts with roles of their sentences",
        "train.jsonl, dev.jsonl and test.jsonl with sentences, each with text and label",
        roles.SUFFIXES,
    ),
    "values": Format(
        "texts with a value", "train, dev and test as .jsonl or .csv with text and value", values.SUFFIXES
    ),
}
