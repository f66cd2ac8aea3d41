"""Both losses on the tiny families: exact gradients, right labels, every way they can be set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.backbone import load_backbone
from model.config import CodecConfig
from model.gain import LatentGain, Regression
from model.memory import Statistics
from model.straight_through import rounded, through_nf4
from model.training.head_loss import HeadLoss
from model.training.losses import (
    Batch,
    Prefix,
    Scored,
    latent_prefix,
    plain_loss,
    reconstruction,
    stage1_loss,
    stage2_loss,
    text_prefix,
    tokens_covered,
)
from model.training.trainee import Trainee

K = 4
LENGTHS = (9, 16, 5)


def trainee(family: str = "tiny-llama", *, gain: str = "raw", trains: str = "both", stage: int = 2) -> Trainee:
    """Both adapters random and different, so that neither could stand in for the other."""
    config = CodecConfig(chunk_tokens=16, num_latents=K, lora_rank=4, latent_gain=gain)
    made = Trainee(load_backbone(family, precision="fp32", device="cpu"), config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=generator)
    made.delta_D.data.normal_(0, 0.1, generator=generator)
    if gain == "linear":
        made.set_gain(Regression(*(torch.randn(*s, generator=generator) * 0.1 for s in ((64,), (64, 64), (64,)))))
    elif gain != "raw":
        made.set_gain(LatentGain(torch.rand(64, generator=generator) * 0.2 + 0.1))
    made.train(stage, trains)
    return made


def batch(*, pad: int = 0) -> Batch:
    ids = torch.randint(3, 259, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(2))
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length:] = pad
    return Batch(ids, torch.tensor(LENGTHS))


def gradients(made: Trainee, scored: Scored) -> dict[str, torch.Tensor]:
    parameters = {name: p for name, p in made._training.items()}
    found = torch.autograd.grad(scored.loss, list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


def looped_loss(made: Trainee, row: torch.Tensor, substage: int) -> torch.Tensor:
    """Stage 2 of one chunk as the paper has it: the whole prefix again for each latent, each detached when fed back."""
    embed, body, head = made.backbone.embed, made.backbone.body, made.backbone.head
    latents = []
    with made.adapter("encoder"):
        for _ in range(substage):
            fed = [made.gain(h).detach()[None] for h in latents]
            inputs = torch.cat([embed(row), made.marker_D[None], *fed])[None]
            latents.append(body(inputs_embeds=inputs, use_cache=False).last_hidden_state[0, -1])
    covered = -(-len(row) * substage // K)
    with made.adapter("decoder"):
        start = embed(torch.tensor([made.backbone.end_token]))
        prefix = torch.cat([start, made.gain(torch.stack(latents)), embed(row[covered:]), made.marker_D[None]])
        hidden = body(inputs_embeds=torch.cat([prefix, embed(row)])[None], use_cache=False).last_hidden_state[0]
    labels = torch.cat([row, torch.tensor([made.backbone.end_token])])
    return torch.nn.functional.cross_entropy(head(hidden[len(prefix) - 1 :]), labels, reduction="sum")


@pytest.mark.parametrize("family", ["tiny-llama", "tiny-qwen3"])
@pytest.mark.parametrize("substage", [1, 2, 4])
@pytest.mark.parametrize("gain", ["raw", "learned", "linear"])
def test_parallel_stage_2_has_the_gradients_of_the_loop(family, substage, gain):
    made, several = trainee(family, gain=gain), batch()
    loops = sum(looped_loss(made, several.ids_BL[i, :n], substage) for i, n in enumerate(LENGTHS))
    wanted = gradients(made, Scored(loops, torch.zeros(())))
    scored = stage2_loss(made, several, substage)
    found = gradients(made, scored)
    assert scored.loss.item() == pytest.approx(loops.item(), rel=1e-5)
    assert set(found) == set(wanted) and len(found) == len(made._training)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item()), name


def test_stage_1_reads_the_text_and_is_scored_on_its_copy_and_the_end():
    made, several = trainee(stage=1), batch()
    scored = stage1_loss(made, several)
    rows = [several.ids_BL[i, :n] for i, n in enumerate(LENGTHS)]
    with made.adapter("decoder"):
        wanted = sum(copied_loss(made, row) for row in rows)
    assert scored.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert all(".decoder." in name or name == "marker" for name in gradients(made, scored))


def copied_loss(made: Trainee, row: torch.Tensor) -> torch.Tensor:
    embed, body = made.backbone.embed, made.backbone.body
    start = embed(torch.tensor([made.backbone.end_token]))
    inputs = torch.cat([start, embed(row), made.marker_D[None], embed(row)])[None]
    hidden = body(inputs_embeds=inputs, use_cache=False).last_hidden_state[0, 1 + len(row) :]
    labels = torch.cat([row, torch.tensor([made.backbone.end_token])])
    return torch.nn.functional.cross_entropy(made.backbone.head(hidden), labels, reduction="sum")


def test_labels_and_latents_are_of_the_text_whatever_the_decoder_reads():
    """A label's loss depends on what is read before it alone, and the end's on all of it."""
    made, several = trainee(), batch()
    read_BL = several.ids_BL.clone()
    for row, length in zip(read_BL, LENGTHS, strict=True):
        row[length - 1] = 200  # read before the end-of-text only
    plain, noised = losses(made, several), losses(made, dataclasses.replace(several, read_BL=read_BL))
    ends = np.cumsum([length + 1 for length in LENGTHS]) - 1
    assert (np.flatnonzero((plain - noised).abs() > 1e-5) == ends).all()
    same = stage2_loss(made, dataclasses.replace(several, read_BL=several.ids_BL), K)
    assert torch.equal(same.loss, stage2_loss(made, several, K).loss)


def losses(made: Trainee, several: Batch) -> torch.Tensor:
    """[N] of stage 2 at all latents, a label each."""
    seen = []

    def each(states_ND, weight_VD, labels_N, compiled):
        seen.append(torch.nn.functional.cross_entropy(states_ND @ weight_VD.T, labels_N, reduction="none").detach())
        return seen[0].sum(), torch.zeros(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeadLoss, "apply", each)
        stage2_loss(made, several, K)
    return seen[0]


@pytest.mark.parametrize("loss", [stage1_loss, lambda t, b: stage2_loss(t, b, 2), plain_loss])
def test_pad_ids_do_not_matter(loss):
    made = trainee()
    zeros, ends = loss(made, batch(pad=0)), loss(made, batch(pad=77))
    assert torch.equal(zeros.loss, ends.loss) and torch.equal(zeros.correct, ends.correct)


def test_latents_stand_for_their_share_of_the_text_rounded_up():
    assert tokens_covered(torch.tensor([128, 5, 16]), 1, 15).tolist() == [9, 1, 2]
    assert tokens_covered(torch.tensor([128, 5, 16]), 15, 15).tolist() == [128, 5, 16]
    made, several = trainee(), batch()
    prefix = latent_prefix(made, several, torch.zeros(3, 2, 64))
    assert prefix.lengths_B.tolist() == [1 + 2 + 4 + 1, 1 + 2 + 8 + 1, 1 + 2 + 2 + 1]  # start, latents, half, marker
    assert torch.equal(prefix.embeds_BPD[0, 0], made.backbone.embed(torch.tensor(made.backbone.end_token)))
    assert torch.equal(prefix.embeds_BPD[1, 3:11], made.backbone.embed(several.ids_BL[1, 8:16]))
    assert torch.equal(prefix.embeds_BPD[0, 7], made.marker_D)


def test_the_frozen_decoder_gets_no_gradient():
    made = trainee(trains="encoder")
    found = gradients(made, stage2_loss(made, batch(), 3))
    assert found and all(".encoder." in name for name in found)


def test_a_fixed_gain_scales_what_is_read_and_a_learned_one_trains():
    fixed, learned = trainee(gain="fixed"), trainee(gain="learned")
    assert "gain" not in fixed._training
    assert gradients(learned, stage2_loss(learned, batch(), 2))["gain"].abs().sum() > 0
    latents = torch.ones(3, 1, 64)
    assert torch.allclose(latent_prefix(fixed, batch(), latents).embeds_BPD[:, 1], fixed.gain.factor_D.expand(3, -1))


def test_gain_is_measured_to_an_embeddings_length():
    made = trainee(gain="fixed")
    made.measure_gain([row[:n].numpy() for row, n in zip(batch().ids_BL, LENGTHS, strict=True)])
    gain_D = made.gain.factor_D
    assert 0 < gain_D[0] < 1 and torch.equal(gain_D, gain_D[:1].expand(64))


def test_quantising_in_the_loop_changes_the_loss_and_passes_the_gradient():
    made, several = trainee(), batch()
    made.statistics = Statistics(torch.full((64,), 0.1), torch.full((64,), 1.3), None)
    dense, rounded = stage2_loss(made, several, 3), stage2_loss(made, several, 3, quantise=True)
    assert dense.loss.item() != rounded.loss.item()
    assert set(gradients(made, dense)) == set(gradients(made, rounded))
    latents = torch.randn(2, 3, 64, requires_grad=True)
    through_nf4(latents, *[torch.ones(64)] * 2).sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


@pytest.mark.parametrize("width", [64, 150])
def test_rounding_is_what_bitsandbytes_stores(width):
    from model import nf4

    values = torch.randn(5, 3 * width, generator=torch.Generator().manual_seed(0)) * 3
    values[0] = 0.0
    assert torch.equal(rounded(values), nf4.dequantise(*nf4.quantise(values), 3 * width))


def test_plain_loss_is_the_backbones_own():
    made, several = trainee(), batch()
    row = several.ids_BL[2, :5]
    labels = torch.cat([row, torch.tensor([0])])
    with made.wrapped.disable_adapter():
        logits = made.backbone.model(torch.cat([torch.tensor([0]), row])[None]).logits[0]
    wanted = torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
    assert plain_loss(made, Batch(row[None], torch.tensor([5]))).loss.item() == pytest.approx(wanted, rel=1e-5)


def test_prefixes_end_with_the_marker():
    made, several = trainee(), batch()
    prefix: Prefix = text_prefix(made, several)
    assert prefix.lengths_B.tolist() == [1 + n + 1 for n in LENGTHS]
    for i, n in enumerate(LENGTHS):
        assert torch.equal(prefix.embeds_BPD[i, 1 + n], made.marker_D)
    assert reconstruction(made, prefix, several).correct <= sum(LENGTHS) + len(LENGTHS)
