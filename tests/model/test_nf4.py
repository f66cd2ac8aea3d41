"""The 4-bit form of latents: how small, how close, and what standardising is for."""

from __future__ import annotations

import pytest
import torch

from model import nf4


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def round_trip(values_BN: torch.Tensor) -> torch.Tensor:
    return nf4.dequantise(*nf4.quantise(values_BN), values_BN.shape[1])


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_gaussian_values_come_back_within_a_tenth():
    values_BN = gaussian(8, 15 * 576)
    assert error(round_trip(values_BN), values_BN) < 0.1


@pytest.mark.parametrize("width", [1, 63, 64, 65, 100, 15 * 72])
def test_any_width_round_trips(width):
    values_BN = gaussian(3, width)
    codes_BC, scales_BG = nf4.quantise(values_BN)
    blocks = -(-width // 64)
    assert (codes_BC.shape, scales_BG.shape) == ((3, 32 * blocks), (3, blocks))
    assert round_trip(values_BN).shape == (3, width)
    assert error(round_trip(values_BN), values_BN) < 0.12


def test_a_row_does_not_depend_on_its_neighbours():
    values_BN = gaussian(4, 100)
    loud_BN = values_BN.clone()
    loud_BN[1:] *= 1000
    assert torch.equal(round_trip(values_BN)[0], round_trip(loud_BN)[0])
    assert torch.equal(round_trip(values_BN)[0], round_trip(values_BN[:1])[0])


def test_a_chunk_of_the_embedded_backbone_takes_under_4700_bytes():
    codes_BC, scales_BG = nf4.quantise(gaussian(1, 15 * 576))
    assert (codes_BC.dtype, codes_BC.numel()) == (torch.uint8, 4320)
    assert (scales_BG.dtype, scales_BG.numel()) == (torch.float16, 135)
    assert codes_BC.numel() + 2 * scales_BG.numel() <= 4700


def test_dequantising_reads_the_float16_scales():
    codes_BC, scales_BG = nf4.quantise(gaussian(2, 128))
    assert torch.equal(nf4.dequantise(codes_BC, 2 * scales_BG, 128), 2 * nf4.dequantise(codes_BC, scales_BG, 128))
    largest = nf4.dequantise(codes_BC, scales_BG, 128).view(2, 2, 64).abs().amax(-1)
    assert torch.equal(largest, scales_BG.float())  # the code book reaches from -1 to 1


def test_a_scale_past_float16_stays_finite():
    assert torch.isfinite(round_trip(torch.full((1, 64), 1e6))).all()


def test_standardising_saves_the_channels_that_outliers_drown():
    latents_NKD = gaussian(64, 15, 576)
    loud = torch.zeros(576, dtype=torch.bool)
    loud[::48] = True
    latents_NKD[..., loud] = 40 * latents_NKD[..., loud] + 100  # a few channels far larger, around a common mean
    mean_D, deviation_D = latents_NKD.flatten(0, 1).mean(0), latents_NKD.flatten(0, 1).std(0)
    flat = round_trip(latents_NKD.flatten(1)).view_as(latents_NKD)
    standard = nf4.standardise(latents_NKD, mean_D, deviation_D)
    restored = nf4.restore(round_trip(standard.flatten(1)).view_as(standard), mean_D, deviation_D)
    assert error(flat[..., ~loud], latents_NKD[..., ~loud]) > 0.9  # all but rounded to zero
    assert error(restored[..., ~loud], latents_NKD[..., ~loud]) < 0.1
    assert error(restored, latents_NKD) * 2 < error(flat, latents_NKD)


def test_a_channel_that_never_moves_survives():
    latents_NKD = gaussian(4, 3, 64)
    latents_NKD[..., 5] = 7.0
    mean_D, deviation_D = latents_NKD.flatten(0, 1).mean(0), latents_NKD.flatten(0, 1).std(0)
    standard = nf4.standardise(latents_NKD, mean_D, deviation_D)
    assert torch.isfinite(standard).all()
    restored = nf4.restore(round_trip(standard.flatten(1)).view_as(standard), mean_D, deviation_D)
    torch.testing.assert_close(restored[..., 5], latents_NKD[..., 5], atol=1e-3, rtol=0)
