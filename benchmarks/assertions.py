"""Does a model's assertion head beat rules? Both say of the same gold problems whether the patient has them.

    python -m benchmarks.assertions --model minilm-notes [--split test] [--json]

The rules are in the manner of NegEx and ConText (Chapman et al. 2001, "A simple algorithm for identifying negated
findings"; Harkema et al. 2009, "ConText"): phrases before or after a finding decide about it, up to a word that ends
their reach or the end of the sentence. Prints accuracy and macro F1 with 95 % intervals (bootstrap over notes), and
the spans of the model by label and by source of the note.
"""

import argparse
import gzip
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import datasets, inference, models
from trainer.datasets.attributes import Attribute
from trainer.datasets.places import split_files
from trainer.datasets.readers import spans
from trainer.datasets.readers.entities import MarkedDocument
from trainer.evaluation import attribute_scores, hardware, span_scores
from trainer.models.heads import document_reading

ATTRIBUTE = "assertion"
REACH = 12  # words that a phrase reaches at most
# Phrases before and after a finding by the value that they give; the first value with a phrase in reach wins.
BEFORE = {
    "family": """mother, father, brother, sister, son, daughter, aunt, uncle, cousin, grandmother, grandfather,
        parents, siblings, maternal, paternal, family history""",
    "hypothetical": """if, should, in case of, return for, return with, call for, risk of, risks of, risk for, risks
        include, risks including, to prevent, to avoid, to exclude, to evaluate for, to look for, to rule
        out, prevention of, prophylaxis, prn, as needed for, monitor for, monitoring for, watch for,
        complications include, complications including, complications such as, screening for""",
    "conditional": "allergy, allergies, allergic, allergic to, reaction",
    "absent": """no, not, denies, denied, denying, without, never, nor, neither, non, none, resolved, negative for,
        free of, absence of, ruled out, lack of""",
    "possible": """possible, possibly, probable, probably, likely, suspected, suspect, questionable, r/o, versus, vs,
        differential, suspicious for, suspicion of, question of, cannot exclude, cannot rule out, rule out,
        concern for, concerning for, concern about, may be, may have, might be, might have, could be,
        appears to""",
}
AFTER = {
    "hypothetical": "prophylaxis, precautions, screening",
    "conditional": """on exertion, with exertion, on exercise, with exercise, with activity, on walking, with walking,
        with movement, on standing, on palpation, with palpation, when walking, after eating""",
    "absent": """negative, absent, resolved, denied, none, ruled out, not seen, not present, not noted, not
        identified, is negative, was negative, is absent, was ruled out, were ruled out, has resolved, have
        resolved, is resolved""",
    "possible": """is possible, is suspected, was suspected, is likely, possible, suspected, versus, vs, cannot be
        excluded, cannot be ruled out""",
}
_ENDS = re.compile(
    r"\b(?:but|however|although|except|which|who|secondary to|because|since|aside from|other than)\b|[.;\n]", re.I
)


def rules(text: str, start: int, end: int) -> str:
    """The assertion of the finding text[start:end] by its context alone."""
    before = _ENDS.split(text[max(0, start - 200) : start])[-1].split()[-REACH:]
    after = _ENDS.split(text[end : end + 120])[0].split()
    left, right = " ".join(before).lower(), " ".join(after).lower()
    for value in BEFORE:
        if _pattern(BEFORE[value]).search(left) or (value in AFTER and _pattern(AFTER[value]).match(right)):
            return value
    return "possible" if right.startswith("?") or left.endswith("?") else "present"


@cache
def _pattern(phrases: str) -> re.Pattern[str]:
    """Any of some phrases, after at most three other signs where it has to begin."""
    listed = "|".join(re.escape(" ".join(phrase.split())) for phrase in phrases.split(","))
    return re.compile(rf"\W{{0,3}}(?<![\w-])(?:{listed})(?![\w-])")


def table(notes: Sequence[MarkedDocument], says: Callable[[int, Any], str | None], attribute: Attribute) -> np.ndarray:
    """(notes, values, values): gold value of each finding beside what `says` gives for (number of the note, entity)."""
    counts = np.zeros((len(notes), len(attribute.values), len(attribute.values)), dtype=np.int64)
    numbers = {value: number for number, value in enumerate(attribute.values)}
    for number, note in enumerate(notes):
        for entity in note.entities:
            gold, answer = dict(entity.attributes).get(ATTRIBUTE), says(number, entity)
            if gold is not None and answer is not None:
                counts[number, numbers[gold], numbers[answer]] += 1
    return counts


def scored(counts: np.ndarray, attribute: Attribute) -> dict[str, Any]:
    """Accuracy, macro F1 and F1 by value, each with its interval."""
    values = attribute_scores.value_scores(counts.sum(0), attribute)
    drawn = attribute_scores.value_scores(attribute_scores.resampled(counts, 1000, 0), attribute)
    return {
        name.partition(".")[2]: [
            round(float(value), 4),
            *(round(each, 4) for each in attribute_scores.interval(drawn[name])),
        ]
        for name, value in values.items()
    }


def sources(path: Path) -> list[str]:
    """The field `source` of each row of a split; "" where a row has none."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line).get("source", "") for line in lines if line.strip()]


def compare(reference: str, dataset: str, split: str) -> dict[str, Any]:
    """What rules and model reach on the gold spans of a split, and the model's spans by source of the note."""
    resolved = datasets.resolve(dataset)
    path = split_files(Path(resolved.path))[split]
    notes = list(spans.read_marked(path))
    model, tokenizer = models.load(reference)
    known = {attribute.name: attribute for attribute in inference.attributes_of(model)}
    attribute = known[ATTRIBUTE]
    sentences = [spans.tag_words(note.text, note.entities) for note in notes]
    # In windows as long as its training rows, as it reads a note.
    window = document_reading(model)["max_tokens"]
    outputs = inference.word_outputs([each.words for each in sentences], model, tokenizer, max_tokens=window)
    gold = [list(each.tags) for each in sentences]
    stated = [each.attributes for each in sentences]
    confusions = attribute_scores.confusions(gold, stated, outputs, attribute)
    by_rules = table(notes, lambda number, entity: rules(notes[number].text, entity.start, entity.end), attribute)
    predicted = [each.tags for each in outputs]
    wholes = {"all": list(range(len(notes)))}
    for number, source in enumerate(sources(path)):
        wholes.setdefault(source or "all", []).append(number)
    by_source = {}
    for source, numbers in wholes.items():
        chosen = list(dict.fromkeys(numbers))
        some_gold, some_predicted = [gold[n] for n in chosen], [predicted[n] for n in chosen]
        some_outputs, some_stated = [outputs[n] for n in chosen], [stated[n] for n in chosen]
        scores = span_scores.scores(some_gold, some_predicted)
        scores |= attribute_scores.scores(model, some_gold, some_predicted, some_outputs, some_stated)
        names = ("f1", "overlap_f1", "assertion.accuracy", "assertion.macro_f1", "assertion.end_to_end_f1")
        by_type = sorted(name for name in scores if name.startswith("f1."))
        by_source[source] = {"notes": len(chosen)} | {name: round(scores[name], 4) for name in (*names, *by_type)}
    return {
        "name": f"assertions-{split}",
        "findings": int(confusions.sum()),
        "ours": scored(confusions, attribute),
        "peer": scored(by_rules, attribute),
        "spans": by_source,
        "processor": hardware.processor(),
    }


def printed(result: dict[str, Any]) -> Iterable[str]:
    """The result as lines."""
    yield f"{result['name']}: {result['findings']} gold findings"
    for who, scores in (("model", result["ours"]), ("rules", result["peer"])):
        for name, (value, low, high) in scores.items():
            yield f"  {who}  {name:18} {value:.3f} [{low:.3f}, {high:.3f}]"
    for source, scores in result["spans"].items():
        figures = ", ".join(f"{name} {value}" for name, value in scores.items())
        yield f"  spans of {source}: {figures}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-notes")
    parser.add_argument("--dataset", default="clinical-notes")
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = compare(options.model, options.dataset, options.split)
    print(json.dumps([result], indent=2) if options.json else "\n".join(printed(result)))


if __name__ == "__main__":
    main()
