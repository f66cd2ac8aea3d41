"""Encode, verify and draft against the plain way of doing each."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache

from model.backbone import Backbone
from model.cache import roomy_cache
from model.gain import LatentGain
from model.latents import draft_tokens, encode_latents, read_tokens
from model.untrained import base_marker

K = 15
RAW = LatentGain()


@pytest.fixture(scope="module")
def double(tiny) -> Backbone:
    """In double precision two ways of the same arithmetic agree closely; fp32 differs by 5e-5 at the last latent."""
    return replace(tiny, model=deepcopy(tiny.model).double())


def random_ids(backbone, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, backbone.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def marker(backbone) -> torch.Tensor:
    return base_marker(backbone, "repeat").to(backbone.dtype)


def encode(backbone, ids_BL, lengths=None, gain=RAW, num_latents=K) -> torch.Tensor:
    lengths_B = torch.full((len(ids_BL),), ids_BL.shape[1]) if lengths is None else torch.tensor(lengths)
    with torch.inference_mode():
        return encode_latents(backbone, ids_BL, lengths_B, marker(backbone), gain, num_latents)


@torch.inference_mode()
def encode_by_rerunning(backbone, ids_BL, gain) -> torch.Tensor:
    """The published loop: for every latent, the whole prefix again, without a cache."""
    marker_B1D = marker(backbone).expand(len(ids_BL), 1, -1)
    inputs = torch.cat([backbone.embed(ids_BL), marker_B1D], dim=1)
    latents = []
    for _ in range(K):
        latents.append(backbone.body(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, -1])
        inputs = torch.cat([inputs, gain(latents[-1])[:, None]], dim=1)
    return torch.stack(latents, dim=1)


@torch.inference_mode()
def prefix(backbone, batch: int) -> torch.Tensor:
    """Four random latents and the marker."""
    latents = torch.randn(batch, 4, backbone.width, generator=torch.Generator().manual_seed(1))
    return torch.cat([latents, marker(backbone).expand(batch, 1, -1)], dim=1)


@pytest.mark.parametrize("kind", ["raw", "factor", "map"])
def test_cached_latents_equal_the_rerun_loop(double, kind):
    gain = {
        "raw": LatentGain(),
        "factor": LatentGain(torch.full((double.width,), 0.25)),
        "map": LatentGain(None, torch.eye(double.width).roll(1, 0) / 4, torch.full((double.width,), 0.1)),
    }[kind].to(double.dtype)
    ids_BL = random_ids(double, 3, 128)
    found, wanted = encode(double, ids_BL, gain=gain), encode_by_rerunning(double, ids_BL, gain)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_gain_matters_from_the_second_latent_on(tiny):
    ids_BL = random_ids(tiny, 2, 20)
    raw, scaled = encode(tiny, ids_BL), encode(tiny, ids_BL, gain=LatentGain(torch.full((tiny.width,), 0.25)))
    assert torch.equal(raw[:, 0], scaled[:, 0])
    assert not torch.allclose(raw[:, 1], scaled[:, 1], atol=1e-2)


def test_latents_of_right_padded_chunks_equal_the_unpadded(double):
    lengths = [1, 2, 31, 127, 128]
    ids_BL = random_ids(double, len(lengths), 128)
    together = encode(double, ids_BL, lengths)
    alone = torch.cat([encode(double, ids_BL[i : i + 1, :length]) for i, length in enumerate(lengths)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_what_stands_in_the_padding_changes_nothing(tiny):
    ids_BL = random_ids(tiny, 2, 40)
    other_BL = ids_BL.clone()
    other_BL[0, 9:] = 0  # the pad and end-of-text token
    assert torch.equal(encode(tiny, ids_BL, [9, 40]), encode(tiny, other_BL, [9, 40]))


def test_the_first_latent_is_the_input_of_the_lm_head_bit_for_bit(tiny):
    ids_BL = random_ids(tiny, 2, 50)
    seen = []
    hook = tiny.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    inputs = torch.cat([tiny.embed(ids_BL), marker(tiny).expand(2, 1, -1)], dim=1)
    try:
        tiny.model(inputs_embeds=inputs)
    finally:
        hook.remove()
    assert torch.equal(encode(tiny, ids_BL, num_latents=1)[:, 0], seen[0][:, -1])


def test_encoding_never_runs_the_lm_head(tiny):
    def refuse(module, inputs):
        raise AssertionError("the LM head ran")

    hook = tiny.head.register_forward_pre_hook(refuse)
    try:
        encode(tiny, random_ids(tiny, 2, 20))
    finally:
        hook.remove()


@torch.inference_mode()
def test_a_draft_is_what_teacher_forcing_calls_right(tiny):
    """Induction: a greedy draft's tokens are the argmax at each of its positions, and the lead there is positive."""
    prefix_BSD = prefix(tiny, 4)
    drafted_BL = draft_tokens(tiny, prefix_BSD, torch.full((4, 40), -1))
    reading = read_tokens(tiny, prefix_BSD, drafted_BL)
    assert torch.equal(reading.argmax_BL, drafted_BL)
    assert (reading.lead_BL > 0).all()


@torch.inference_mode()
def test_forcing_the_wrong_positions_makes_a_draft_of_any_text(tiny):
    prefix_BSD = prefix(tiny, 4)
    ids_BL = draft_tokens(tiny, prefix_BSD, torch.full((4, 60), -1))
    ids_BL[:, ::9] = random_ids(tiny, 4, 7)  # neither all right nor all wrong
    reading = read_tokens(tiny, prefix_BSD, ids_BL)
    forced_BL = torch.where(reading.lead_BL <= 0.05, ids_BL, -1)
    assert 0.1 < float((forced_BL < 0).float().mean()) < 0.9
    assert torch.equal(draft_tokens(tiny, prefix_BSD, forced_BL), ids_BL)


@torch.inference_mode()
def test_a_lead_is_the_true_logit_minus_the_best_other(tiny):
    prefix_BSD, ids_BL = prefix(tiny, 2), random_ids(tiny, 2, 12)
    inputs = torch.cat([prefix_BSD, tiny.embed(ids_BL[:, :-1])], dim=1)
    logits_BLV = tiny.model(inputs_embeds=inputs).logits[:, prefix_BSD.shape[1] - 1 :]
    own_BL = logits_BLV.gather(-1, ids_BL[..., None])[..., 0]
    others_BLV = logits_BLV.scatter(-1, ids_BL[..., None], float("-inf"))
    reading = read_tokens(tiny, prefix_BSD, ids_BL)
    torch.testing.assert_close(reading.lead_BL, own_BL - others_BLV.amax(-1), atol=1e-4, rtol=0)
    assert torch.equal(reading.argmax_BL, logits_BLV.argmax(-1))


@torch.inference_mode()
def test_padding_behind_a_text_leaves_its_reading_alone(tiny):
    prefix_BSD, ids_BL = prefix(tiny, 2), random_ids(tiny, 2, 30)
    long, short = read_tokens(tiny, prefix_BSD, ids_BL), read_tokens(tiny, prefix_BSD, ids_BL[:, :11])
    assert torch.equal(long.argmax_BL[:, :11], short.argmax_BL)
    torch.testing.assert_close(long.lead_BL[:, :11], short.lead_BL, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_the_roomy_cache_holds_what_the_growing_one_holds(tiny):
    inputs = tiny.embed(random_ids(tiny, 2, 24))
    roomy, growing = roomy_cache(tiny.model.config, 24), DynamicCache(config=tiny.model.config)
    for start, end in [(0, 20), (20, 21), (21, 24)]:
        outputs = [
            tiny.body(inputs_embeds=inputs[:, start:end], past_key_values=cache, use_cache=True).last_hidden_state
            for cache in (roomy, growing)
        ]
        assert torch.equal(*outputs)
        assert roomy.get_seq_length() == growing.get_seq_length() == end


@torch.inference_mode()
def test_a_full_cache_refuses_another_position(tiny):
    inputs = tiny.embed(random_ids(tiny, 1, 9))
    with pytest.raises(ValueError, match="the cache has room for 8 positions and was asked to hold 9"):
        tiny.body(inputs_embeds=inputs, past_key_values=roomy_cache(tiny.model.config, 8), use_cache=True)
