"""Checkpoints: exact, committed whole or not at all, and checked before they are trusted."""

import json

import pytest
import torch

from trainer.errors import CorruptFile
from trainer.files import MANIFEST, commit_folder, verify_folder
from trainer.run import Run
from trainer.spec import Schedule
from trainer.training import checkpoint
from trainer.training.checkpoint import Progress
from trainer.training.loop import optimizer_for

SCHEDULE = Schedule.model_validate({"steps": 6, "batch_size": 4})


class Tied(torch.nn.Module):
    """Two layers that share one matrix, as an encoder and its vocabulary head do."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = torch.nn.Embedding(11, 4)
        self.head = torch.nn.Linear(4, 11)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


def trained(seed=0):
    model = Tied(seed)
    optimizer = optimizer_for(model, SCHEDULE)
    for _ in range(3):
        model(torch.arange(5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "job-1" / "attempt-1"
    folder.mkdir(parents=True)
    return Run(folder)


def moments(optimizer):
    return [value for state in optimizer.state.values() for _, value in sorted(state.items())]


def test_what_is_restored_is_what_was_saved(run):
    model, optimizer = trained()
    progress = Progress(step=3, best_step=2, best_score=0.5, evaluations=[{"step": 2, "dev_f1": 0.5}])
    folder = checkpoint.save(run, model, optimizer, progress)
    other = Tied(seed=9)
    other_optimizer = optimizer_for(other, SCHEDULE)
    assert checkpoint.restore(folder, other, other_optimizer) == progress
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert other.head.weight is other.embedding.weight
    assert len(moments(optimizer)) == 6
    assert all(torch.equal(a, b) for a, b in zip(moments(optimizer), moments(other_optimizer), strict=True))


def test_a_checkpoint_that_does_not_say_how_words_were_cut_is_from_before_the_present_cut(run):
    folder = checkpoint.save(run, *trained(), Progress(step=3))
    path = folder / "progress.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "words"})
    )
    model, optimizer = trained()
    assert checkpoint.restore(folder, model, optimizer).words < Progress().words


def damage_byte(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def damage_length(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])


def damage_missing(folder, name):
    (folder / name).unlink()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "progress.json", MANIFEST])
@pytest.mark.parametrize("damage", [damage_byte, damage_length, damage_missing])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(run, damage, name):
    model, optimizer = trained()
    older = checkpoint.save(run, model, optimizer, Progress(step=1))
    newer = checkpoint.save(run, model, optimizer, Progress(step=2))
    assert checkpoint.latest(run) == newer
    damage(newer, name)
    assert checkpoint.latest(run) == older
    damage(older, name)
    assert checkpoint.latest(run) is None


def test_the_newest_two_and_the_best_stay(run):
    model, optimizer = trained()
    for step in range(1, 7):
        checkpoint.save(run, model, optimizer, Progress(step=step, best_step=2 if step >= 2 else None))
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == ["step-2", "step-5", "step-6"]


def test_another_attempts_checkpoints_are_read_and_never_touched(run):
    model, optimizer = trained()
    first = checkpoint.save(run, model, optimizer, Progress(step=1))
    second = Run(run.folder.parent / "attempt-2")
    second.folder.mkdir()
    assert checkpoint.latest(second) == first
    for step in range(2, 6):
        checkpoint.save(second, model, optimizer, Progress(step=step, best_step=1))
    verify_folder(first)
    assert checkpoint.at_step(second, 1) == first


def test_a_missing_best_checkpoint_is_a_typed_error(run):
    with pytest.raises(CorruptFile, match="step 4"):
        checkpoint.at_step(run, 4)


def test_another_architecture_is_refused(run):
    model, optimizer = trained()
    folder = checkpoint.save(run, model, optimizer, Progress(step=1))
    with pytest.raises(CorruptFile, match="another architecture"):
        checkpoint.restore_weights(folder, torch.nn.Linear(2, 2))


def test_a_failed_write_leaves_the_old_folder(tmp_path):
    target = tmp_path / "thing"
    commit_folder(target, lambda folder: (folder / "a.txt").write_text("old"))

    def breaks(folder):
        (folder / "a.txt").write_text("new")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        commit_folder(target, breaks)
    verify_folder(target)
    assert (target / "a.txt").read_text() == "old"
    commit_folder(target, lambda folder: (folder / "b.txt").write_text("newer"))
    verify_folder(target)
    assert sorted(path.name for path in target.iterdir()) == [MANIFEST, "b.txt"]


def test_the_best_score_is_kept_and_ties_go_to_the_first():
    progress = Progress()
    for step, score in ((1, 0.2), (2, 0.5), (3, 0.5), (4, 0.1)):
        progress.step = step
        progress.record(score, {"dev_f1": score})
    assert (progress.best_step, progress.best_score, progress.evaluations_since_best) == (2, 0.5, 2)
    assert json.dumps(progress.evaluations)
