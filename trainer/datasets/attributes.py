"""Attributes of spans, such as the assertion of a problem: present, absent, possible.

A tagger with attributes has one output per tag and after them one per value of each attribute, named
`@attribute=value`. The value of a span is the most likely one of the mean of its words' outputs: a linear layer on the
mean of its states, so that tags and attributes come out of one forward pass of any token classifier.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

CARRIERS = "stillroom_attributes"  # in a config.json: the entity types whose spans carry an attribute, by its name
NAME = re.compile(r"[^\s=@]{1,60}")
VALUE = re.compile(r"\S(?:[^\n\t\0]{0,58}\S)?")
_OUTPUT = re.compile(r"@([^=]+)=(.+)", re.S)


class Attribute(NamedTuple):
    """An attribute of spans: its values in the order of the outputs, of which `first` is the number of the first.

    carriers: the entity types whose spans carry it.
    """

    name: str
    values: tuple[str, ...]
    first: int
    carriers: tuple[str, ...]

    @property
    def outputs(self) -> slice:
        """Its columns in the logits of a model."""
        return slice(self.first, self.first + len(self.values))


def tag_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of a tagger's outputs that are tags: all but the values of attributes."""
    return tuple(name for name in names if not _OUTPUT.fullmatch(name))


def output_names(values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The names of the outputs for some attributes and their values."""
    return tuple(output_name(name, value) for name in values for value in values[name])


def output_name(attribute: str, value: str) -> str:
    """The name of the output for a value of an attribute."""
    return f"@{attribute}={value}"


def split(output: str) -> tuple[str, str]:
    """The attribute and the value that an output stands for; both empty for a tag."""
    match = _OUTPUT.fullmatch(output)
    return (match[1], match[2]) if match else ("", "")


def read(names: Sequence[str], carriers: Mapping[str, Sequence[str]], kinds: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes among a tagger's outputs.

    carriers: what its config keeps under CARRIERS; an attribute that it does not mention is carried by all of `kinds`,
    its entity types.
    """
    by_name: dict[str, list[str]] = {}
    first: dict[str, int] = {}
    for number, output in enumerate(names):
        if match := _OUTPUT.fullmatch(output):
            by_name.setdefault(match[1], []).append(match[2])
            first.setdefault(match[1], number)
    return tuple(
        Attribute(name, tuple(values), first[name], tuple(carriers.get(name, kinds)))
        for name, values in by_name.items()
    )
