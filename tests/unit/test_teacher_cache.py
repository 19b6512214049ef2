"""The cache of a teacher's outputs by word: equal to its forward pass, computed once, repaired when damaged."""

import errno
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pair import TAGS

from trainer import models
from trainer.datasets import Sentence
from trainer.examples import open_data
from trainer.resolved import ResolvedDataset
from trainer.tasks.ner import NER
from trainer.training import teacher_cache

WORDS = [
    ("congestive", "cardiomyopathy", "was", "seen", "."),
    ("\ufffd", "no", "adverse", "events", "."),  # the first word yields no piece
    ("antihypertensive", "treatment") * 12,  # longer than a row
]
SENTENCES = [Sentence(words, ("O",) * len(words)) for words in WORDS]
COUNT = sum(map(len, WORDS))


@pytest.fixture(scope="module")
def taught(tiny_model):
    """The teacher and its tokenizer."""
    return models.load(str(tiny_model))


def rows_of(tokenizer, sentences=SENTENCES, *, max_tokens=24):
    data = open_data(NER(), ResolvedDataset(reference="none", path="/none", sha256=""))
    data._examples["train"] = sentences
    options = {"label_ids": dict(zip(TAGS, range(3), strict=True)), "max_tokens": max_tokens, "with_units": True}
    return data.rows("train", tokenizer, **options)


class Passes:
    """Counts the forward passes of a model."""

    def __init__(self, model):
        self.count, self.handle = 0, model.base_model.register_forward_hook(self._add)

    def _add(self, *_):
        self.count += 1


@pytest.fixture
def passes(taught):
    counted = Passes(taught[0])
    yield counted
    counted.handle.remove()


def keep(taught, cache, rows=None, *, weights="a" * 64, levels=(2,), **options):
    model, tokenizer = taught
    options |= {"levels": levels, "weights": weights, "cache": cache}
    return teacher_cache.teacher_outputs(model, rows or rows_of(tokenizer), **options)


@pytest.mark.parametrize("levels", [(2,), (1, 2), (0, 1), ()])
def test_every_word_has_the_outputs_of_its_first_piece(levels, taught, tmp_path):
    model, tokenizer = taught
    outputs, rows = keep(taught, tmp_path, levels=levels), rows_of(tokenizer)
    assert outputs.logits.shape == (COUNT, 3) and outputs.logits.dtype == np.float32
    assert outputs.states.shape == (COUNT, len(levels), 32) and outputs.states.dtype == np.float16
    assert outputs.unit_bytes == 3 * 4 + len(levels) * 32 * 2
    seen = set()
    for row in rows.rows:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([row.input_ids]), output_hidden_states=True)
        for place, word in enumerate(row.words):
            if word >= 0:
                seen.add(word)
                assert np.allclose(outputs.logits[word], output.logits[0, place].numpy(), atol=1e-5)
                for level, states in zip(levels, outputs.states[word], strict=True):
                    assert np.allclose(states, output.hidden_states[level][0, place].numpy(), atol=2e-3)
    assert outputs.at(torch.tensor([7, 0]))["teacher_states"].shape == (2, len(levels), 32)
    assert seen == set(range(COUNT)) - {5}, "only the word without pieces has nothing"


def test_words_are_found_whatever_their_order(taught, tmp_path):
    outputs = keep(taught, tmp_path)
    words = torch.tensor([7, 0, 7, 3])
    looked_up = outputs.at(words)
    assert looked_up["teacher_logits"].dtype == looked_up["teacher_states"].dtype == torch.float32
    assert np.array_equal(looked_up["teacher_logits"].numpy(), outputs.logits[[7, 0, 7, 3]])
    assert np.array_equal(looked_up["teacher_states"].numpy(), outputs.states[[7, 0, 7, 3]].astype(np.float32))
    assert outputs.at(torch.tensor([], dtype=torch.long))["teacher_states"].shape == (0, 1, 32)


def test_a_student_that_cuts_words_differently_meets_the_same_words(taught, tmp_path):
    """Batches of any tokenizer and length name words by the same numbers."""
    _, tokenizer = taught
    narrow, wide = rows_of(tokenizer, max_tokens=12), rows_of(tokenizer, max_tokens=64)
    words = [[word for row in rows.rows for word in row.words if word >= 0] for rows in (narrow, wide)]
    assert words[0] == words[1]
    batch = wide.batch([2, 0])
    assert batch["words"].shape == batch["input_ids"].shape
    assert (batch["words"][1] >= 0).sum() == 5


def test_the_second_time_nothing_is_computed(taught, tmp_path, passes):
    first = keep(taught, tmp_path)
    assert passes.count > 0
    passes.count = 0
    again = keep(taught, tmp_path)
    assert passes.count == 0
    assert np.array_equal(first.logits, again.logits) and np.array_equal(first.states, again.states)


def test_labels_do_not_affect_a_teachers_outputs(taught, tmp_path, passes):
    keep(taught, tmp_path)
    passes.count = 0
    other = [Sentence(words, ("B-Disease",) * len(words)) for words in WORDS]
    keep(taught, tmp_path, rows_of(taught[1], other))
    keep(taught, tmp_path, rows_of(taught[1], [Sentence(words, ()) for words in WORDS]))
    assert passes.count == 0


@pytest.mark.parametrize("what", ["weights", "levels", "text", "order", "tokens"])
def test_other_teachers_levels_texts_and_lengths_are_kept_apart(what, taught, tmp_path, passes):
    before = keep(taught, tmp_path)
    passes.count = 0
    other = {
        "weights": lambda: keep(taught, tmp_path, weights="b" * 64),
        "levels": lambda: keep(taught, tmp_path, levels=(1, 2)),
        "text": lambda: keep(taught, tmp_path, rows_of(taught[1], [*SENTENCES[:2], Sentence(WORDS[2][:-1], ())])),
        "order": lambda: keep(taught, tmp_path, rows_of(taught[1], SENTENCES[::-1])),
        "tokens": lambda: keep(taught, tmp_path, rows_of(taught[1], max_tokens=16)),
    }[what]()
    assert passes.count > 0
    if what not in ("weights", "levels"):
        assert before.logits.shape != other.logits.shape or not np.array_equal(before.logits, other.logits)
    assert len([path for path in (tmp_path / "teacher").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("no", "fever"), ("no", "pain")),
        (("no", "fever"), ("no", "\ufffd", "fever")),  # the same pieces, other words
    ],
)
def test_texts_that_are_hardly_different_are_kept_apart(one, other, taught, tmp_path, passes):
    tokenizer = taught[1]
    rows = [rows_of(tokenizer, [Sentence(words, ())]) for words in (one, other)]
    assert rows[0].lengths.tolist() == rows[1].lengths.tolist()
    keep(taught, tmp_path, rows[0])
    passes.count = 0
    keep(taught, tmp_path, rows[1])
    assert passes.count > 0


def damage_byte(folder):
    path = folder / teacher_cache.LOGITS
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def damage_length(folder):
    path = folder / teacher_cache.STATES
    path.write_bytes(path.read_bytes()[:-2])


def damage_missing(folder):
    (folder / teacher_cache.LOGITS).unlink()


def damage_manifest(folder):
    (folder / "MANIFEST.json").unlink()


def damage_half_made(folder):
    shutil.copytree(folder, folder.parent / f".tmp-{folder.name}")
    shutil.rmtree(folder)


DAMAGES = [damage_byte, damage_length, damage_missing, damage_manifest, damage_half_made]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_computed_again(damage, taught, tmp_path, passes):
    whole = keep(taught, tmp_path)
    expected = np.array(whole.logits), np.array(whole.states)
    (folder,) = (path for path in (tmp_path / "teacher").iterdir() if path.is_dir())
    damage(folder)
    passes.count = 0
    again = keep(taught, tmp_path)
    assert passes.count > 0
    assert np.array_equal(again.logits, expected[0]) and np.array_equal(again.states, expected[1])
    passes.count = 0
    keep(taught, tmp_path)
    assert passes.count == 0


def test_the_size_of_its_batches_changes_nothing_that_matters(taught, tmp_path):
    large = keep(taught, tmp_path / "large")
    small = keep(taught, tmp_path / "small", batch_tokens=24)
    assert np.allclose(large.logits, small.logits, atol=1e-5)


def test_no_text_is_kept(taught, tmp_path):
    keep(taught, tmp_path)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(word.encode() in written for word in ("cardiomyopathy", "congestive", "antihypertensive"))


class Enough(Exception):
    """What a caller raises that wants no more."""


def test_progress_is_reported_and_a_stopped_cache_keeps_nothing(taught, passes, tmp_path):
    rows, progress = rows_of(taught[1]), []

    def stop(done, total):
        progress.append((done, total))
        if done > 1:
            raise Enough

    options = {"levels": (1, 2), "weights": "a" * 64, "cache": tmp_path, "batch_tokens": 24}
    with pytest.raises(Enough):
        teacher_cache.teacher_outputs(taught[0], rows, progress=stop, **options)
    stopped = passes.count
    left = [path for path in (tmp_path / "teacher").rglob("*") if path.suffix != ".lock"]
    assert 0 < stopped < len(rows.lengths) and not left
    progress.clear()
    teacher_cache.teacher_outputs(taught[0], rows, progress=lambda *at: progress.append(at), **options)
    assert passes.count > stopped and progress[-1] == (len(rows.lengths),) * 2 and progress == sorted(progress)


SHARED_MEMORY = Path("/dev/shm")  # a disk that refuses at once what is larger than itself


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no disk of shared memory here")
def test_a_disk_without_room_is_an_error_before_the_teacher_is_asked(taught, passes):
    class Many:
        """Rows of more words than fit."""

        def __init__(self, rows):
            self.lengths, self.content, self.batch = rows.lengths, rows.content, rows.batch
            self.units = shutil.disk_usage(SHARED_MEMORY).total

    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        with pytest.raises(OSError) as error:
            keep(taught, Path(folder), Many(rows_of(taught[1])))
        assert error.value.errno == errno.ENOSPC and passes.count == 0
        assert not [path for path in (Path(folder) / "teacher").iterdir() if path.suffix != ".lock"]


STATUS = Path("/proc/self/status")


def mapped_bytes():
    """Pages of files in this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not say which pages are of files")
def test_what_was_read_of_the_files_does_not_stay_in_the_process(tmp_path):
    units = 40_000
    shapes = {teacher_cache.LOGITS: (units, 3), teacher_cache.STATES: (units, 384)}
    files = [np.lib.format.open_memmap(tmp_path / name, "w+", np.float16, shape) for name, shape in shapes.items()]
    files[1][:] = np.arange(units)[:, None] % 1000
    outputs = teacher_cache.TeacherOutputs(files[0], files[1].reshape(units, 1, 384))
    teacher_cache._drop_pages(*outputs)
    before = mapped_bytes()
    for start in range(0, units, 1000):
        looked_up = outputs.at(torch.arange(start, start + 1000))
        assert torch.equal(looked_up["teacher_states"][:, 0, 7], torch.arange(1000.0)), "what was written is kept"
    assert mapped_bytes() - before < 5e6 < files[1].nbytes
