"""Which chunks a step reads, and checkpoints that break."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.training.checkpoints import TENSORS, Checkpoints
from model.training.curriculum import Place
from model.training.passages import Passages, Sampler, write_passages

LENGTHS = np.random.default_rng(0).integers(16, 129, size=1003)


def test_an_epoch_reads_each_chunk_at_most_once_and_never_a_held_out_one():
    sampler = Sampler(LENGTHS, batch_size=10, seed=0, first=100)
    epoch = np.concatenate([sampler.batch(step) for step in range(sampler.batches)])
    assert len(epoch) == len(set(epoch)) == 900 and epoch.min() >= 100
    following = np.concatenate([sampler.batch(step) for step in range(90, 180)])
    assert not np.array_equal(epoch, following)


def test_a_step_reads_the_same_chunks_whoever_asks_and_whenever():
    asked_late = Sampler(LENGTHS, batch_size=10, seed=3).batch(257)
    walked = Sampler(LENGTHS, batch_size=10, seed=3)
    for step in range(258):
        last = walked.batch(step)
    assert np.array_equal(asked_late, last)


def test_batches_are_of_one_length_nearly():
    sampler = Sampler(LENGTHS, batch_size=10, seed=0)
    spread = [np.ptp(LENGTHS[sampler.batch(step)]) for step in range(sampler.batches)]
    assert np.mean(spread) < 5


def test_fewer_chunks_than_a_batch_are_one_batch():
    assert sorted(Sampler(LENGTHS[:4], batch_size=32, seed=0).batch(7)) == [0, 1, 2, 3]


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(ValueError, match="none is left"):
        Sampler(LENGTHS[:4], batch_size=2, seed=0, first=4)


def test_passages_come_back_as_they_were_written(tmp_path):
    chunks = [np.arange(3), np.arange(5, 7), np.array([70000])]
    write_passages(chunks, tmp_path / "data", held_out=1, card={})
    passages = Passages.open(tmp_path / "data")
    assert len(passages) == 3 and passages.lengths_N.tolist() == [3, 2, 1]
    assert [passages.chunk(i).tolist() for i in range(3)] == [[0, 1, 2], [5, 6], [70000]]
    assert [c.tolist() for c in passages.held_out_chunks()] == [[0, 1, 2]]
    assert [len(passages.first_chunks(tokens)) for tokens in (1, 3, 4, 5, 6, 99)] == [1, 1, 2, 2, 3, 3]


def checkpoints(folder, steps=(10, 20, 30)) -> Checkpoints:
    made = Checkpoints(folder, keep=2)
    for step in steps:
        made.write(Place(1, 0, step, step, step, 100), {"x": torch.full((1000,), float(step))})
    return made


def test_the_last_few_checkpoints_stay(tmp_path):
    made = checkpoints(tmp_path)
    saved = made.read(pytest.fail)
    assert saved.place.step == 30 and saved.tensors["x"][0] == 30
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 2 and made.latest().startswith("00000030")


@pytest.mark.parametrize("break_it", [lambda p: p.write_bytes(p.read_bytes()[:100]), lambda p: p.unlink()])
def test_a_torn_checkpoint_is_passed_over_and_said(tmp_path, break_it):
    made, said = checkpoints(tmp_path), []
    break_it(tmp_path / made.latest() / TENSORS)
    assert made.read(said.append).place.step == 20
    assert len(said) == 1 and "00000030-1-00 is torn" in said[0]


@pytest.mark.parametrize("keep", [1, 2])
def test_what_is_written_after_a_torn_checkpoint_is_what_is_read(tmp_path, keep):
    """The torn one, of a later step, neither takes the place of a good one nor comes back."""
    checkpoints(tmp_path)
    made = Checkpoints(tmp_path, keep=keep)
    (tmp_path / made.latest() / TENSORS).write_bytes(b"torn")
    made.write(Place(1, 0, 25, 25, 25, 100), {"x": torch.zeros(1)})
    assert made.read(pytest.fail).place.step == 25 and made.latest().startswith("00000025")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000020-1-00", "00000025-1-00"][-keep:]


def test_a_checkpoint_that_was_being_written_is_not_there(tmp_path):
    made = checkpoints(tmp_path)
    (tmp_path / ".writing.abc").mkdir()
    assert made.read(pytest.fail).place.step == 30
