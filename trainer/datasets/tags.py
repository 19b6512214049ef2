"""What the tags of a token classifier mean, which only all of its labels together show.

Outside this module there is one form, IOB2: O, B-<type> where an entity begins, I-<type> inside it. Models are trained
with others: IO, IOB1, IOE, BIOES, BILOU, BMES, types without a prefix, and the prefix after the type. Labels whose
meaning is not clear are refused: a wrong guess would give wrong findings that nobody notices.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from trainer.datasets import attributes
from trainer.errors import BadSpec

OUTSIDE = "O"
DECODING = "stillroom_decoding"  # of a config: "viterbi" where the tags of a text are decoded together
# How each scheme writes the position of a word in an entity, translated to the letters of BIOES.
SCHEMES = {
    "IOB": {"B": "B", "I": "I"},
    "IOE": {"I": "I", "E": "E"},
    "BIOES": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "BILOU": {"B": "B", "I": "I", "L": "E", "U": "S"},
    "BMES": {"B": "B", "M": "I", "E": "E", "S": "S"},
    "BMEWO": {"B": "B", "M": "I", "E": "E", "W": "S"},
    "BIOES in words": {"BEGIN": "B", "INSIDE": "I", "END": "E", "SINGLE": "S"},
    "BILOU in words": {"BEGIN": "B", "INSIDE": "I", "LAST": "E", "UNIT": "S"},
}
_BORDER = "|".join(sorted({border for scheme in SCHEMES.values() for border in scheme}, key=len, reverse=True))
_BEFORE = re.compile(rf"(?P<border>{_BORDER})(?P<mark>[-_.:/| ])(?P<kind>.+)", re.I | re.S)
_BEHIND = re.compile(rf"(?P<kind>.+)(?P<mark>[-_.:/| ])(?P<border>{_BORDER})", re.I | re.S)
_UNNAMED = re.compile(r"LABEL_\d+")  # the names that transformers gives to labels without a name
_OUTSIDES = ("OUT", "OUTSIDE", "OTHER", "NONE")  # only beside tags with prefixes; otherwise OTHER may be an entity type
# Labels of special tokens, from tutorials that train on them: a word with one is outside every entity.
_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "<pad>", "<s>", "</s>", "<unk>", "<mask>")
# The substitutes for a position that a scheme cannot express. "": a type without a prefix.
_INSTEAD = {"B": ("B", "I", ""), "I": ("I", "", "E"), "E": ("E", "I", ""), "S": ("S", "B", "E", "I", "")}
_NAME_THEM = "Write what each output stands for into id2label of its config.json, as in O, B-Drug, I-Drug."


class Meaning(NamedTuple):
    """The meaning of one output: the position of a word in an entity, B, I, E, S or "" (unknown), and the entity type.

    Outside every entity both are "".
    """

    border: str
    kind: str


_NOTHING = Meaning("", "")


class Tags(NamedTuple):
    """The labels of a token classifier and their meanings, both by output.

    scheme: the usual name of the tagging scheme. outside: the output that stands for O.
    """

    scheme: str
    names: tuple[str, ...]
    meanings: tuple[Meaning, ...]
    outside: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The entity types, sorted."""
        return tuple(sorted({meaning.kind for meaning in self.meanings} - {""}))

    def columns(self, kind: str) -> list[int]:
        """The outputs of an entity type, whatever the position."""
        return [output for output, meaning in enumerate(self.meanings) if meaning.kind == kind]

    def iob2(self, outputs: Iterable[int]) -> list[str]:
        """The IOB2 tags for the outputs of consecutive words; an I- after O, although it begins an entity, stays I-."""
        tags, before = [], _NOTHING
        for meaning in (self.meanings[output] for output in outputs):
            begins = meaning.border in ("B", "S") or (before.border in ("E", "S") and before.kind == meaning.kind)
            tags.append(f"{'B' if begins else 'I'}-{meaning.kind}" if meaning.kind else OUTSIDE)
            before = meaning
        return tags

    def outputs(self, tags: Sequence[str]) -> list[int]:
        """The outputs for IOB2 tags of consecutive words, with the nearest position that the scheme can express.

        Raises KeyError for a type that no output stands for.
        """
        kinds = [kind_of(tag) for tag in tags]
        begins = [place == 0 or tags[place][0] == "B" or kinds[place - 1] != kind for place, kind in enumerate(kinds)]
        ends = [*begins[1:], True][: len(tags)]
        borders = ("IBES"[first + 2 * last] for first, last in zip(begins, ends, strict=True))
        return [self._output(*each) if each[1] else self.outside for each in zip(borders, kinds, strict=True)]

    def _output(self, border: str, kind: str) -> int:
        by_border = {self.meanings[output].border: output for output in self.columns(kind)}
        if not by_border:
            raise KeyError(kind)
        return next((by_border[each] for each in _INSTEAD[border] if each in by_border), min(by_border.values()))


def kind_of(tag: str) -> str:
    """The entity type of an IOB2 tag; "" of O."""
    return "" if tag == OUTSIDE else tag[2:]


def inside_tag(tag: str) -> str:
    """The IOB2 tag of the next word of the same entity: I- of B- and I-, O of O."""
    return f"I-{tag[2:]}" if tag[:2] == "B-" else tag


def entities_of(tags: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """(entity type, first word, last word) of each entity in IOB2 tags, as seqeval counts: I- after O begins one."""
    first, open_kind = 0, ""
    for index, tag in enumerate(chain(tags, [OUTSIDE])):
        kind = kind_of(tag)
        if kind == open_kind and tag[0] != "B":
            continue
        if open_kind:
            yield open_kind, first, index - 1
        first, open_kind = index, kind


def entity_types(tags: Iterable[str]) -> tuple[str, ...]:
    """The entity types in IOB2 tags, sorted."""
    return tuple(sorted({kind_of(tag) for tag in set(tags)} - {""}))


def read(names: Iterable[str]) -> Tags:
    """What the labels of a token classifier mean, by output. Raises BadSpec where that is not clear.

    Values of attributes (trainer.datasets.attributes), whose outputs come after those of the tags, are left out.
    """
    return _read(attributes.tag_names(names))


def has_borders(names: Iterable[str]) -> bool:
    """Whether labels are tags with positions such as B- and I-, and so labels of words rather than of documents."""
    inside = [name for name in names if name not in (OUTSIDE, OUTSIDE.lower(), *_SPECIAL)]
    return _bordered(inside) is not None


@lru_cache(maxsize=256)
def _read(names: tuple[str, ...]) -> Tags:
    if names and all(map(_UNNAMED.fullmatch, names)):
        raise _unclear(names, "these are the names that transformers gives to outputs without a name")
    inside = [name for name in names if name not in _SPECIAL]
    outside = next((name for name in (OUTSIDE, "o") if name in inside), None)
    if outside is None:
        outside = _outside(inside)
    inside.remove(outside)
    if inside and _bare(inside):
        raise _unclear(names, "its tags name no entity type")
    scheme, meanings = _bordered(inside) or _plain(names, inside)
    return Tags(scheme, names, tuple(meanings.get(name, _NOTHING) for name in names), names.index(outside))


def _outside(inside: Sequence[str]) -> str:
    """The label outside every entity where none is called O: the only one without a position."""
    rest = [name for name in inside if not _BEFORE.fullmatch(name)]
    alone = [name for name in inside if name not in rest]
    if len(rest) == 1 and rest[0].upper() in _OUTSIDES and _bordered(alone):
        return rest[0]
    raise _unclear(inside, "none of them is O, which stands for outside every entity")


def _bare(inside: Collection[str]) -> bool:
    """Whether the labels are positions without an entity type."""
    letters = {name.upper() for name in inside}
    return "I" in letters and any(letters <= set(scheme) for scheme in SCHEMES.values())


def _bordered(inside: Collection[str]) -> tuple[str, dict[str, Meaning]] | None:
    """The scheme and the meanings of labels that all have a position, before or behind the type; None for others."""
    for pattern in (_BEFORE, _BEHIND):
        parts = {name: part for name in inside if (part := pattern.fullmatch(name))}
        if (
            parts
            and len(parts) == len(set(inside))
            and (scheme := _scheme([*parts.values()], behind=pattern is _BEHIND))
        ):
            letters = SCHEMES[scheme]
            meanings = {name: Meaning(letters[part["border"].upper()], part["kind"]) for name, part in parts.items()}
            return (_iob(meanings) if scheme == "IOB" else scheme), meanings
    return None


def _scheme(parts: Sequence[re.Match[str]], *, behind: bool) -> str | None:
    """The scheme that uses these letters, if the labels make sense together."""
    letters, marks = {part["border"] for part in parts}, {part["mark"] for part in parts}
    capital = all(letter.isupper() for letter in letters)
    if len(marks) > 1 or not (capital or all(letter.islower() for letter in letters)):
        return None
    named = (name for name, table in SCHEMES.items() if {letter.upper() for letter in letters} <= set(table))
    scheme = next(named, None)
    if scheme is None:
        return None
    places = _places(parts, SCHEMES[scheme])
    usual = scheme == "IOB" and capital and not behind and marks <= {"-", "_"}
    if not usual and not _clear(places, behind=behind) or scheme not in ("IOB", "IOE") and not _whole(places):
        return None
    return scheme


def _places(parts: Iterable[re.Match[str]], letters: dict[str, str]) -> dict[str, set[str]]:
    """The positions that each type has."""
    places: dict[str, set[str]] = {}
    for part in parts:
        places.setdefault(part["kind"], set()).add(letters[part["border"].upper()])
    return places


def _clear(places: dict[str, set[str]], *, behind: bool) -> bool:
    """Whether some type has two positions: e-cigarette by itself is a type, and so are vitamin-B and vitamin-E."""
    return any({"B", "I"} <= borders if behind else len(borders) > 1 for borders in places.values())


def _whole(places: dict[str, set[str]]) -> bool:
    """Whether each type has the positions that its entities need in a scheme that marks the last word."""
    ends = any("E" in borders for borders in places.values())
    return all(
        borders == {"S"} or ("B" in borders and not (ends and "I" in borders and "E" not in borders))
        for borders in places.values()
    )


def _iob(meanings: dict[str, Meaning]) -> str:
    """IOB2, IOB1 or IO. Where every type has both positions, the first two look the same and are read the same way."""
    by_border = {border: {kind for each, kind in meanings.values() if each == border} for border in "BI"}
    if not by_border["B"]:
        return "IO"
    return "IOB1" if by_border["I"] - by_border["B"] else "IOB2"


def _plain(names: Sequence[str], inside: Collection[str]) -> tuple[str, dict[str, Meaning]]:
    """The scheme and the meanings of labels that are bare entity types. Raises BadSpec if some look like tags."""
    letters = {letter: place for scheme in SCHEMES.values() for letter, place in scheme.items()}
    for pattern in (_BEFORE, _BEHIND):
        parts = {name: part for name in inside if (part := pattern.fullmatch(name))}
        places = _places(parts.values(), letters)
        if any("B" in borders and len(borders) > 1 for borders in places.values()) and _clear(
            places, behind=pattern is _BEHIND
        ):
            rest = [name for name in inside if name not in parts]
            what = f"beside tags with B- and I- there is {_list(rest)}" if rest else "they are of no known scheme"
            raise _unclear(names, what)
    return "types without borders", {name: Meaning("", name) for name in inside}


def _unclear(names: Iterable[str], what: str) -> BadSpec:
    schemes = "Known are IO, IOB1, IOB2, IOE, BIOES, BILOU, BMES, and types without a border beside O."
    return BadSpec(
        [("model", f"its labels cannot be read as tags ({_list(names)}): {what}")],
        next_step=f"{_NAME_THEM} {schemes}",
    )


def _list(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def iob2(entity_types: Iterable[str]) -> tuple[str, ...]:
    """The IOB2 tags of entity types, in the same order in every run: O, B-a, I-a, B-b, ..."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(entity_types) for prefix in "BI"))
