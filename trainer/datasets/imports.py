"""`stillroom datasets import`: a version of your own data in one form, named by its hash, split by document if need be.

    STILLROOM_HOME/datasets/NAME/HASH/    card.yaml, and train, dev and test as .jsonl, tagged sentences as .conll,
                                          questions as SQuAD .json

NAME stands for the version that was imported last, NAME@HASH for one of them. A version is never changed.
"""

import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from trainer.datasets import hub
from trainer.datasets.cards import CARD, NAME, Counts, shipped
from trainer.datasets.contents import Contents, LabelledContents
from trainer.datasets.formats import FORMATS
from trainer.datasets.places import SPLITS, digest, locate, split_files
from trainer.datasets.readers import brat, conll, labelled, pairs, questions, related, roles, spans, text, values
from trainer.datasets.readers.conll import Sentence
from trainer.datasets.readers.entities import MarkedDocument
from trainer.datasets.readers.lines import objects
from trainer.datasets.readers.questions import Question
from trainer.datasets.report import Report, check
from trainer.errors import BadData, BadSpec, UnknownName
from trainer.files import commit_folder
from trainer.files import sha256 as file_sha256
from trainer.home import home
from trainer.tasks import TASKS

WINDOWS = (512, 4096)  # word pieces
SHARES = {"train": 0.7, "dev": 0.1, "test": 0.2}  # of the documents
_TAGS = ("ner_tags", "tags", "labels")  # usual names of the tags of `tokens` on the Hub
GROUPS = ("document", "document_id", "doc_id", "note_id", "patient_id", "patient", "subject_id")
Row = Mapping[str, Any] | Sentence
RowReader = Callable[..., Iterable[tuple[int, Mapping[str, Any] | BadData]]]  # (file, name=) as readers.pairs.rows


def import_data(
    path: str | Path,
    *,
    task: str,
    name: str,
    group: str | None = None,
    licence: str = "not stated",
    source: str = "",
    count_pieces: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> tuple[str, Report]:
    """Copy a data set for a task into the state folder: (NAME@HASH, what it contains).

    path: what `check` takes: a folder with splits, one file, or one folder of BRAT files; or hf:owner/name, a data set
    of the Hub that `datasets fetch` has brought here. Where dev or test is missing documents of train are moved there:
    10 and 20 % of all, chosen by hash; rows with the same text, or the same `group` (a field; by default the first of
    GROUPS that rows have), stay together. With any problem nothing is imported: the reference is then "" and the report
    has the problems. count_pieces: the number of word pieces of each text, for a note on the card.
    Raises UnknownName for an unknown task or path, BadSpec for a name that cannot be used, and BadData for a field that
    rows lack, or too few documents to split.
    """
    _check_name(name)
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    folder = home() / "datasets"
    folder.mkdir(exist_ok=True)
    kind = TASKS[task].data
    with TemporaryDirectory(dir=folder, prefix=".tmp-") as draft:
        origin, files = _files(str(path), kind, Path(draft))
        for file in files.values():
            report = check(file, task=task)
            if report.problems:
                return "", report
        rows = {split: list(_read(file, kind)) for split, file in files.items()}
        copy = Path(draft) / name
        copy.mkdir()
        _write(copy, _split(rows, group) if TASKS[task].labelled else rows, kind)
        report = check(copy, task=task)
        if report.problems:
            return "", report
        version = digest(copy)[:8]
        facts = {"licence": licence, "source": source or f"imported from {origin}"}
        card = _card(name, task, copy, report, **facts)
        if count_pieces:
            texts = dict.fromkeys(_text(row) for part in rows.values() for row in part)
            card["notes"].append(describe_lengths(count_pieces([*texts])))
        (copy / CARD).write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), encoding="utf-8")

        def write(target: Path) -> None:
            for file in copy.iterdir():
                file.rename(target / file.name)

        commit_folder(folder / name / version, write)
    return f"{name}@{version}", report


def _files(path: str, kind: str, draft: Path) -> tuple[str, dict[str, Path]]:
    """What is imported in a word, and the file of each split; those of a Hub data set are written to `draft`."""
    if hub.is_reference(path):
        folder = draft / path.removeprefix(hub.PREFIX).replace("/", "-")
        folder.mkdir()
        _write(folder, {split: [_hub_row(row, kind) for row in rows] for split, rows in hub.rows(path).items()}, kind)
        return path, {file.stem: file for file in folder.iterdir()}
    place = locate(path)
    alone = place.is_file() or brat.is_split(place)
    return place.name, {"train": place} if alone else split_files(place)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        what = "write small letters, digits, dots, dashes and underscores, at most 61, with a letter or digit first"
        raise BadSpec([("name", what)])
    if name in shipped():
        raise BadSpec([("name", f"{name} is a data set that ships with Stillroom; choose another name")])


def _read(file: Path, kind: str) -> Iterator[Row]:
    """The rows of a split that has no problems, in the form in which they are written."""
    if kind == "questions":
        yield from map(_question_row, questions.read(file))
    elif not file.is_dir() and file.name.endswith(".conll"):
        yield from (placed.sentence for placed in conll.read(file))
    elif file.is_dir() or ".pubtator" in file.suffixes[-2:]:
        yield from map(_marked_row, spans.read_marked(file))
    elif ".jsonl" in file.suffixes[-2:]:
        yield from _valid(objects(file))
    elif kind == "text" and ".csv" not in file.suffixes[-2:]:
        yield from ({"text": document.text} for document in text.read(file))
    else:
        readers: dict[str, RowReader] = {"pairs": pairs.rows, "related": related.rows, "values": values.rows}
        read_rows: RowReader = readers.get(kind, labelled.rows)
        yield from _valid(read_rows(file, name=file.name))


def _valid(rows: Iterable[tuple[int, Mapping[str, Any] | BadData]]) -> Iterator[Mapping[str, Any]]:
    for _, row in rows:
        if isinstance(row, BadData):
            raise row
        yield row


def _question_row(question: Question) -> Mapping[str, Any]:
    answers = [{"text": question.text[start:end], "answer_start": start} for start, end in question.answers]
    row = {"id": question.id, "context": question.text, "question": question.question, "answers": answers}
    return row | {"is_impossible": not answers}


def _hub_row(row: Mapping[str, Any], kind: str) -> Row:
    """A row of the Hub in the form of this project: tagged words, or SQuAD's columns of answers as a list."""
    tags = next((row[name] for name in _TAGS if isinstance(row.get(name), list)), None)
    if kind == "tagged" and isinstance(row.get("tokens"), list) and tags is not None:
        return Sentence(tuple(map(str, row["tokens"])), tuple(map(str, tags)))
    answers = row.get("answers")
    if kind == "questions" and isinstance(answers, dict):
        pairs_of = zip(answers.get("text", ()), answers.get("answer_start", ()), strict=False)
        stated = [{"text": words, "answer_start": start} for words, start in pairs_of]
        return {**row, "answers": stated, "is_impossible": not stated}
    return row


def _marked_row(document: MarkedDocument) -> Mapping[str, Any]:
    """A BRAT or PubTator document as a row of JSONL."""
    entities = [
        {"id": entity.id or f"T{number}", "label": entity.label, "start": entity.start, "end": entity.end}
        | ({"concept": "|".join(entity.concepts)} if entity.concepts else {})
        | ({"attributes": dict(entity.attributes)} if entity.attributes else {})
        for number, entity in enumerate(document.entities, 1)
    ]
    relations = [{"label": each.label, "head": each.head, "tail": each.tail} for each in document.relations]
    return {"text": document.text, "entities": entities} | ({"relations": relations} if relations else {})


def _split(rows: Mapping[str, Sequence[Row]], group: str | None) -> dict[str, list[Row]]:
    """The rows by split, those that are missing taken from train."""
    missing = [split for split in SPLITS if split not in rows]
    parts = {split: list(each) for split, each in rows.items()}
    if not missing or "train" not in parts:
        return parts
    groups = _groups(parts["train"], group)
    if len(groups) <= len(missing):
        what = f"{len(groups)} documents with different texts, from which {' and '.join(missing)} would be taken."
        raise BadData(what, next_step="Add documents, or give these splits as files of their own.")
    sizes = {split: max(1, round(SHARES[split] * len(groups))) for split in missing}
    in_train = Counter(label for each in groups for label in _labels(each))  # groups by label
    parts |= {split: [] for split in ("train", *missing)}
    for each in groups:
        labels = _labels(each)
        rare = any(in_train[label] == 1 for label in labels)  # train must have every label
        split = "train" if rare else next((split for split in missing if sizes[split]), "train")
        parts[split] += each
        if split != "train":
            sizes[split] -= 1
            in_train.subtract(labels)
    if empty := [split for split in ("train", *missing) if not parts[split]]:
        what = f"no document is left for {' and '.join(empty)} once train has every label."
        raise BadData(what, next_step="Add documents of the rare labels, or give these splits as files of their own.")
    return parts


def _labels(rows: Sequence[Row]) -> set[str]:
    """The labels in rows of any form, and the values of attributes."""
    labels = set[str]()
    for row in rows:
        if isinstance(row, Sentence):
            labels |= {tag[2:] for tag in row.tags if tag != "O"}
            continue
        marked = [*(row.get("entities") or ()), *(row.get("relations") or ())]
        labels |= {str(each.get("label")) for each in marked}
        labels |= {f"{name}={value}" for each in marked for name, value in (each.get("attributes") or {}).items()}
        labels |= {str(row[field]) for field in pairs.LABELS if isinstance(row.get(field), str | int)}
        labels |= set(map(str, row.get("labels") or ()))
        labels |= {str(sentence["label"]) for sentence in row.get("sentences") or () if "label" in sentence}
    return labels


def _groups(rows: Sequence[Row], group: str | None) -> list[list[Row]]:
    """Rows that must stay together, in an order that depends on what they hold alone."""
    names: dict[str, int] = {}  # the number of a group by each name of its rows
    merged: list[int] = []  # by number, the group that it was merged into, or itself

    def root(number: int) -> int:
        while merged[number] != number:
            number = merged[number]
        return number

    numbers = []
    for row in rows:
        keys = _keys(row, group)
        known = sorted({root(names[key]) for key in keys if key in names})
        if not known:
            known = [len(merged)]
            merged.append(known[0])
        for other in known[1:]:
            merged[other] = known[0]
        names |= dict.fromkeys(keys, known[0])
        numbers.append(known[0])
    groups: dict[int, list[Row]] = {}
    for number, row in zip(numbers, rows, strict=True):
        groups.setdefault(root(number), []).append(row)
    ordered = [(min(min(_keys(row, group)) for row in each), each) for each in groups.values()]
    return [each for _, each in sorted(ordered, key=lambda pair: pair[0])]


def _keys(row: Row, group: str | None) -> list[str]:
    """Hashes of what a row shares with the rows that must stay in its split: its text, and its document or patient."""
    named: object = None
    if isinstance(row, Sentence):
        if group:
            what = f"tagged sentences without a field {group!r}."
            raise BadData(what, next_step="Leave out --group, or give one file per split.")
    else:
        named = row.get(group) if group else next((row[name] for name in GROUPS if row.get(name)), None)
        if group and named is None:
            what = f"a row without the field {group!r}; it has {', '.join(sorted(row))}."
            raise BadData(what, next_step="Choose a field of every row with --group.")
    same_text = " ".join(_text(row).casefold().split())
    return [_hash("text", same_text), *([_hash("group", str(named))] if named is not None else [])]


def _text(row: Row) -> str:
    """The text of a row in any form; of a pair its premise."""
    if isinstance(row, Sentence):
        return " ".join(row.words)
    if isinstance(row.get("sentences"), list):
        return roles.parse(row, line=0).text
    fields = pairs.find_fields(row)
    return str(row.get(fields.premise if fields else "context" if "context" in row else "text"))


def describe_lengths(pieces: Sequence[int]) -> str:
    """How long texts are, against the windows of usual models: 512 and 4,096 word pieces with two special ones."""
    lengths = np.array(pieces or [0])
    middle, long = np.percentile(lengths, [50, 95])
    over = [f"{np.mean(lengths > window - 2):.0%} do not fit a window of {window:,}" for window in WINDOWS]
    return (
        f"Texts have {middle:,.0f} word pieces of MiniLM in the median, {long:,.0f} at the 95th percentile and "
        f"{lengths.max():,} at most; {' and '.join(over)}."
    )


def _hash(kind: str, content: str) -> str:
    return sha256(f"{kind}\0{content}".encode("utf-8", "surrogatepass")).hexdigest()


def _write(folder: Path, parts: Mapping[str, Sequence[Row]], kind: str) -> None:
    for split, rows in parts.items():
        if kind == "questions":
            (folder / f"{split}.json").write_text(_squad(rows), encoding="utf-8")
            continue
        sentences = [row for row in rows if isinstance(row, Sentence)]
        if sentences:
            conll.write(folder / f"{split}.conll", sentences)
            continue
        lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


def _squad(rows: Sequence[Row]) -> str:
    """Questions as SQuAD JSON, those of one text together."""
    by_text: dict[object, list[Row]] = {}
    for row in rows:
        by_text.setdefault(row.get("context") if isinstance(row, Mapping) else None, []).append(row)
    articles = [{"paragraphs": [{"context": text, "qas": asked}]} for text, asked in by_text.items()]
    return json.dumps({"data": articles}, ensure_ascii=False)


def _card(name: str, task: str, folder: Path, report: Report, *, licence: str, source: str) -> dict[str, Any]:
    """The card of a version, as YAML has it."""
    splits = {
        split: {"file": file.name, **_counts(report.splits[split]), "sha256": file_sha256(file)}
        for split, file in split_files(folder).items()
    }
    several = [part.multi_label for part in report.splits.values() if isinstance(part, LabelledContents)]
    return {
        "id": name,
        "name": f"{name}: {FORMATS[TASKS[task].data].title}, imported",
        "task": task,
        "labels": list(report.labels),
        **({"multi_label": any(several)} if several else {}),
        "licence": licence,
        "source": source,
        "citation": "none",
        "imported": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        "splits": splits,
        "notes": list(report.notes),
    }


def _counts(contents: Contents) -> dict[str, int]:
    """The numbers that a card states of a split."""
    stated = next(each for each in type(contents).__mro__ if each.__base__ is Counts)
    return {field: getattr(contents, field) for field in stated.__annotations__ if field != "unit"}
