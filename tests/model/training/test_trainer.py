"""Steps on a tiny backbone: what moves, what stays, what resumes, what stops."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from model.adapters import adapter_tensors
from model.backbone import load_backbone
from model.config import CodecConfig
from model.training import losses
from model.training.curriculum import Place, TrainConfig
from model.training.flop import step_flop
from model.training.nested import drawn
from model.training.optimizer import MasterAdamW
from model.training.sampling import write_sample
from model.training.trainee import Trainee
from model.training.trainer import LossError, Trainer

pytestmark = pytest.mark.training

CHUNKS = [np.random.default_rng(i).integers(3, 259, size=n) for i, n in enumerate((12, 16, 9, 16))]


def trainer(*, precision: str = "fp32", gain: str = "raw", **settings) -> Trainer:
    backbone = load_backbone("tiny-llama", precision=precision, device="cpu", attention="sdpa")
    settings = {"trains": "encoder"} | settings
    codec = CodecConfig(chunk_tokens=16, num_latents=3, lora_rank=4, latent_gain=gain)
    return Trainer(Trainee(backbone, codec), TrainConfig(warmup_steps=0, learning_rate=3e-3, **settings))


def moved(made: Trainer, place: Place) -> set[str]:
    """Which of the parts a step changes."""
    made.enter(place, CHUNKS)
    parts = lambda: adapter_tensors(made.trainee.wrapped) | {"marker": made.trainee.marker_D} | _gain(made)  # noqa: E731
    before = {name: tensor.detach().clone() for name, tensor in parts().items()}
    for step in range(2):  # LoRA's A moves once B has left zero
        made.step(CHUNKS, dataclasses.replace(place, step=step))
    return {name.split(".")[0] for name, tensor in parts().items() if not torch.equal(tensor, before[name])}


def _gain(made: Trainer) -> dict:
    return made.trainee.gain.detached().tensors()


def stage2(substage: int = 2) -> Place:
    return Place(2, substage, 0, 0, 0, 100)


def test_stage_1_trains_decoder_and_marker():
    made = trainer()
    assert moved(made, made.curriculum.start()) == {"decoder", "marker"}


def test_stage_2_trains_the_encoder_or_both():
    assert moved(trainer(trains="encoder"), stage2()) == {"encoder"}
    assert moved(trainer(trains="both"), stage2()) == {"encoder", "decoder", "marker"}


def test_a_learned_gain_moves_and_a_fixed_one_stays():
    assert moved(trainer(gain="learned"), stage2()) == {"encoder", "gain"}
    assert moved(trainer(gain="linear"), stage2()) == {"encoder", "gain_map", "gain_shift"}
    assert moved(trainer(gain="fixed"), stage2()) == {"encoder"}


def test_the_encoder_starts_as_a_copy_of_the_decoder():
    made = trainer()
    moved(made, made.curriculum.start())
    made.enter(stage2(1), CHUNKS)
    tensors = adapter_tensors(made.trainee.wrapped)
    decoder = {name.removeprefix("decoder."): t for name, t in tensors.items() if name.startswith("decoder.")}
    assert decoder and all(torch.equal(tensors[f"encoder.{name}"], t) for name, t in decoder.items())


def test_quantising_in_the_loop_is_calibrated_on_the_way_in():
    made = trainer(quantise_in_loop=True)
    made.enter(stage2(1), CHUNKS)
    assert made.trainee.statistics.deviation_D.std() > 0
    assert np.isfinite(made.step(CHUNKS, stage2(1)).loss)


@pytest.mark.parametrize("place", [Place(1, 0, 0, 0, 0, 9), stage2(3)])
def test_micro_batches_change_only_rounding(place):
    whole, cut = trainer(micro_batch=4, trains="both"), trainer(micro_batch=1, trains="both")
    for made in (whole, cut):
        made.enter(place, CHUNKS)
        made.loss = made.step(CHUNKS, place)
    assert cut.loss.loss == pytest.approx(whole.loss.loss, rel=1e-5)
    assert cut.loss.gradient_norm == pytest.approx(whole.loss.gradient_norm, rel=1e-4)


def test_micro_batches_in_bf16_add_up_in_float32():
    """Each alone, the very sum of their gradients; added up in bf16 it would be off by a hundredth of its length."""
    made = trainer(precision="bf16", trains="both", micro_batch=1)
    made.enter(stage2(3), CHUNKS)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.trainee.wrapped.named_parameters():
        if "lora_B" in name:  # at zero LoRA's A has no gradient
            parameter.data.normal_(0, 0.05, generator=generator)
    chunks = [np.random.default_rng(i).integers(3, 259, size=16) for i in range(32)]
    alone = [made.gradient([chunk], stage2(3))[:-2] / len(chunks) for chunk in chunks]
    added, rounded = torch.zeros_like(alone[0]), torch.zeros_like(alone[0]).bfloat16()
    for gradient_N in alone:
        added, rounded = added + gradient_N, rounded + gradient_N.bfloat16()
    one_by_one = made.gradient(chunks, stage2(3))[:-2]
    assert torch.equal(one_by_one, added)
    assert (rounded.float() - added).norm() > 5e-3 * added.norm()
    made.config = dataclasses.replace(made.config, micro_batch=32)
    at_once = made.gradient(chunks, stage2(3))[:-2]
    assert (one_by_one - at_once).norm() < 0.7 * (rounded.float() - at_once).norm()


def test_gradients_of_one_backward_after_another_add_up_exactly():
    """In bf16 256 + 1 is 256."""
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer, sum_N = MasterAdamW({"x": parameter}, weight_decay=0.0, clip=1.0), torch.zeros(3)
    for value in (256.0, 1.0, 1.0):
        (parameter * value).sum().backward()
        optimizer.add_gradient(sum_N)
    assert sum_N.tolist() == [258.0] * 3 and parameter.grad is None


def test_weight_decay_draws_each_part_to_where_it_does_nothing():
    made = trainer(gain="learned", trains="both", weight_decay=0.5)
    made.enter(stage2(), CHUNKS)
    made.trainee.factor_D.data.fill_(3.0)
    made.trainee.delta_D.data.fill_(3.0)
    made.make_optimizer(stage2())
    made.optimizer.step(torch.zeros_like(made.optimizer.master_N), learning_rate=1.0)
    assert torch.allclose(made.trainee.factor_D, torch.full((64,), 2.0))
    assert torch.allclose(made.trainee.delta_D, torch.full((64,), 1.5))


@pytest.mark.parametrize("place", [Place(1, 0, 0, 0, 0, 9), stage2(3)])
def test_recomputing_layers_in_backward_changes_nothing(place):
    """Both adapters lie in one graph; a layer recomputed with the other one would be wrong in silence."""
    plain, saving = trainer(trains="both"), trainer(trains="both", gradient_checkpointing=True)
    for made in (plain, saving):
        made.enter(place, CHUNKS)
        made.norms = [made.step(CHUNKS, place).gradient_norm for _ in range(3)]
    assert saving.norms == pytest.approx(plain.norms, rel=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_compiled_layers_take_the_same_steps():
    """Over both adapters, lengths that change, and an LM head in slices."""
    plain, compiled = trainer(trains="both"), trainer(trains="both", compile_layers=True)
    for made in (plain, compiled):
        made.enter(stage2(3), CHUNKS)
        made.steps = [made.step(CHUNKS[:count], stage2(3)) for count in (4, 4, 1)]
    for mine, wanted in zip(compiled.steps, plain.steps, strict=True):
        assert mine.loss == pytest.approx(wanted.loss, rel=1e-4) and mine.accuracy == wanted.accuracy
        assert mine.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"


def test_compiling_without_a_compiler_says_what_to_do(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler and found none: install"):
        trainer(compile_layers=True)


def test_bf16_trains_with_float32_masters():
    made = trainer(precision="bf16", trains="both")
    made.enter(stage2(), CHUNKS)
    losses = [made.step(CHUNKS, stage2()).loss for _ in range(12)]
    assert losses[-1] < losses[0] and made.optimizer.master_N.dtype == torch.float32
    assert adapter_tensors(made.trainee.wrapped).popitem()[1].dtype == torch.bfloat16


def test_a_resumed_run_takes_the_very_same_steps():
    first = trainer(trains="both", gain="learned")
    first.enter(stage2(), CHUNKS)
    for _ in range(3):
        first.step(CHUNKS, stage2())
    tensors = first.trainee.tensors() | first.optimizer.tensors()
    second = trainer(trains="both", gain="learned")
    second.trainee.load(tensors)
    second.make_optimizer(stage2())
    second.optimizer.load(tensors)
    assert [second.step(CHUNKS, stage2()) for _ in range(3)] == [first.step(CHUNKS, stage2()) for _ in range(3)]


def test_noise_is_the_same_for_any_micro_batch_and_leaves_looks_alone():
    clean, whole, cut = trainer(), trainer(text_noise=0.4), trainer(text_noise=0.4, micro_batch=1)
    for made in (clean, whole, cut):
        made.enter(stage2(3), CHUNKS)
        made.looked = made.look(CHUNKS, stage2(3)).loss
        made.first = made.step(CHUNKS, stage2(3)).loss
    assert whole.looked == clean.looked and whole.first != clean.first
    assert cut.first == pytest.approx(whole.first, rel=1e-5)


def test_noise_is_the_same_for_any_number_of_workers():
    alone, *shared = (trainer(text_noise=0.4) for _ in range(3))
    for rank, made in enumerate(shared):
        made.group.rank, made.group.size = rank, len(shared)
    gradients = []
    for made in (alone, *shared):
        made.make_optimizer(stage2(3))
        gradients.append(made.gradient(CHUNKS, stage2(3)))
    torch.testing.assert_close(gradients[1] + gradients[2], gradients[0], rtol=1e-4, atol=1e-6)


def test_noise_is_drawn_again_by_a_run_that_resumes():
    places = [dataclasses.replace(stage2(3), step=step) for step in range(4)]
    first = trainer(text_noise=0.4)
    first.enter(stage2(3), CHUNKS)
    first.step(CHUNKS, places[0])
    first.step(CHUNKS, places[1])
    tensors = first.trainee.tensors() | first.optimizer.tensors()
    second = trainer(text_noise=0.4)
    second.trainee.load(tensors)
    second.make_optimizer(stage2(3))
    second.optimizer.load(tensors)
    assert [second.step(CHUNKS, place) for place in places[2:]] == [first.step(CHUNKS, place) for place in places[2:]]


def test_a_nested_step_reads_as_many_latents_as_are_drawn_and_no_text(monkeypatch):
    made, read = trainer(nested=True), []
    prefix = losses.latent_prefix

    def seen(trainee, batch, latents_BsD):
        found = prefix(trainee, batch, latents_BsD)
        start = found.lengths_B - 1 - latents_BsD.shape[1]  # the marker and the latents; what is left is the start
        read.append((latents_BsD.shape[1], set(start.tolist())))
        return found

    monkeypatch.setattr(losses, "latent_prefix", seen)
    made.enter(stage2(3), CHUNKS)
    places = [dataclasses.replace(stage2(3), step=step) for step in range(12)]
    for place in places:
        made.step(CHUNKS, place)
    wanted = [drawn(3, seed=made.config.seed, step=place.step) for place in places]
    assert read == [(count, {1}) for count in wanted] and set(wanted) == {1, 2, 3}


def test_a_nested_look_reads_all_latents_and_is_that_of_another_run():
    plain, nested = trainer(), trainer(nested=True)
    for made in (plain, nested):
        made.enter(stage2(3), CHUNKS)
    assert nested.look(CHUNKS, stage2(3)) == plain.look(CHUNKS, stage2(3))


def test_nested_training_makes_few_latents_say_more_of_the_text():
    """Sixty steps on four chunks: with one latent of three, the whole text to say."""
    plain, nested = trainer(trains="both"), trainer(trains="both", nested=True)
    for made in (plain, nested):
        made.enter(stage2(3), CHUNKS)
        for step in range(60):
            made.step(CHUNKS, dataclasses.replace(stage2(3), step=step))
        made.trainee.nested = True  # read by one latent alone
        made.one = made.look(CHUNKS, stage2(1)).loss
    assert nested.one < 0.9 * plain.one


def test_a_loss_that_is_not_a_number_changes_nothing():
    made = trainer()
    place = made.curriculum.start()
    made.enter(place, CHUNKS)
    made.trainee.delta_D.data[0] = float("nan")
    before = made.optimizer.master_N.clone()
    with pytest.raises(LossError, match="loss is nan"):
        made.step(CHUNKS, place)
    assert torch.equal(made.optimizer.master_N, before)


def test_a_held_out_loss_that_is_not_a_number_is_no_plateau():
    made = trainer()
    place = made.curriculum.start()
    made.enter(place, CHUNKS)
    made.trainee.delta_D.data[0] = float("nan")
    with pytest.raises(LossError, match="the held-out loss is nan at step 0"):
        made.look(CHUNKS, place)


def test_the_end_of_text_is_learned():
    made = trainer()
    place = made.curriculum.start()
    made.enter(place, CHUNKS)
    for _ in range(150):
        measured = made.step(CHUNKS[2:3], place)
    assert measured.accuracy == 1.0
    assert write_sample(made.trainee, CHUNKS[2], place).whole  # which it is only if it ends where the text ends


def test_work_is_counted_by_position():
    lengths = np.array([10])
    assert step_flop(1, 0, lengths, Place(1, 0, 0, 0, 0, 1), 5) == 4 * 21
    assert step_flop(1, 0, lengths, stage2(5), 5) == 4 * (15 + 5 + 1 + 10) + 2 * 14
