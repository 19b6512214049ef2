"""The most likely sequence of tags that is valid IOB2 (Viterbi), where the most likely tag of each word may not be."""

from collections.abc import Iterator

import numpy as np

from trainer.datasets.tags import Tags


def best_valid_outputs(log_scores: np.ndarray, tags: Tags) -> np.ndarray:
    """For consecutive words the outputs with the highest sum of log probabilities among the valid sequences, (words,).

    Valid means that I-<type> follows B-<type> or I-<type>. log_scores: (words, outputs); tags: IOB2. A long text takes
    no longer than its entities: O is final where no invalid tag after it could gain more than O leads by.
    """
    may_follow = _may_follow(tags)
    outputs = log_scores.argmax(1)
    for start, stop in _runs(log_scores, tags):
        before = np.append(tags.outside, outputs[start : stop - 1])  # what precedes a run is O, or nothing
        if not may_follow[before, outputs[start:stop]].all():
            outputs[start:stop] = _best_path(log_scores[start:stop], may_follow, tags.outside)
    return outputs


def _may_follow(tags: Tags) -> np.ndarray:
    """Whether the second output may follow the first: (outputs, outputs)."""
    kinds = np.array([meaning.kind for meaning in tags.meanings])
    inside = np.array([meaning.border == "I" for meaning in tags.meanings])
    follows: np.ndarray = ~inside[None, :] | (kinds[:, None] == kinds[None, :])
    return follows


def _runs(log_scores: np.ndarray, tags: Tags) -> Iterator[tuple[int, int]]:
    """[start, stop) of the words between those whose tag is certainly O."""
    gain = np.zeros(len(log_scores))  # of I-, where it is more likely than its B-, over a valid tag
    for kind in tags.kinds:
        by_border = {tags.meanings[output].border: output for output in tags.columns(kind)}
        if {"B", "I"} <= by_border.keys():
            np.maximum(gain, log_scores[:, by_border["I"]] - log_scores[:, by_border["B"]], out=gain)
    lead = log_scores[:, tags.outside] - np.delete(log_scores, tags.outside, axis=1).max(1, initial=-np.inf)
    certain = np.flatnonzero(lead > np.append(gain[1:], 0)[: len(gain)])
    edges = np.concatenate([[-1], certain, [len(log_scores)]])
    for before, after in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if after - before > 1:
            yield before + 1, after


def _best_path(log_scores: np.ndarray, may_follow: np.ndarray, before: int) -> np.ndarray:
    """Viterbi over a run of words that follows the output `before`."""
    steps = np.where(may_follow, 0.0, -np.inf)  # (outputs, outputs)
    total = log_scores[0] + steps[before]
    origins = np.zeros(log_scores.shape, dtype=np.int64)
    for word in range(1, len(log_scores)):
        candidates = total[:, None] + steps
        origins[word] = candidates.argmax(0)
        total = candidates.max(0) + log_scores[word]
    path = np.empty(len(log_scores), dtype=np.int64)
    path[-1] = total.argmax()
    for word in range(len(path) - 1, 0, -1):
        path[word - 1] = origins[word, path[word]]
    return path
