"""The arithmetic of encode, verify and draft over one backbone, without batching policy or storage.

Shapes: B chunks, L text tokens (the longest of the batch), K latents, D hidden width, V vocabulary. Token ids are
right-padded; `lengths_B` says how many of a row are real, so no pad token is ever needed.
Source: NextMem (arXiv 2603.15634), encoding and decoding; the KV cache and the parallel verification are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from model.backbone import Backbone
from model.cache import roomy_cache
from model.finite import require_finite
from model.gain import LatentGain
from model.slots import slot_latents

HEAD_ROWS = 512  # positions whose logits are held at once: 100 MB at V = 49,152 in fp32


@dataclass(frozen=True, slots=True)
class Reading:
    """What the teacher-forced decoder makes of known tokens."""

    rival_BL: torch.Tensor  # int64, the best token but the given one
    lead_BL: torch.Tensor  # float32, logit of the given token minus the rival's; > 0 means greedy gets it right
    argmax_BL: torch.Tensor  # int64, greedy choice at each position


def decoder_start(backbone: Backbone, kind: str) -> torch.Tensor:
    """Embeddings [S, D] that stand before the latents, in the backbone's dtype: the end-of-text token's, or none.

    A causal LM's later positions rest part of their attention on the first one, whatever it holds. A latent there is
    read badly, and so is all that follows (docs/decisions.md).
    """
    return backbone.embed(torch.tensor([backbone.end_token][: kind == "end-of-text"], device=backbone.device).long())


def encode_latents(
    backbone: Backbone,
    ids_BL: torch.Tensor,
    lengths_B: torch.Tensor,
    marker_D: torch.Tensor,
    gain: LatentGain,
    num_latents: int,
    slots_KD: torch.Tensor | None = None,
) -> torch.Tensor:
    """Latents [B, K, D] in the backbone's dtype: one prefill of L+1 positions, then K-1 steps over the KV cache.

    The state after the final norm at the marker is the first latent; each is fed back through the gain for the next.
    With slots all come out of one forward (model/slots.py).
    """
    if slots_KD is not None:
        return slot_latents(backbone, ids_BL, lengths_B, slots_KD[:num_latents])
    batch, longest = ids_BL.shape
    rows_B = torch.arange(batch, device=ids_BL.device)
    embeds_BSD = backbone.embed(torch.nn.functional.pad(ids_BL, (0, 1)))
    embeds_BSD[rows_B, lengths_B] = marker_D
    cache = roomy_cache(backbone.model.config, longest + num_latents)
    mask_B11S = _step_mask(lengths_B, longest, num_latents, backbone.dtype)
    with backbone.attending("sdpa"):  # a latent may round as it likes: it is verified as stored
        hidden_BSD = backbone.body(inputs_embeds=embeds_BSD, past_key_values=cache, use_cache=True).last_hidden_state
        latents = [hidden_BSD[rows_B, lengths_B]]
        for step in range(1, num_latents):
            fed_BD = gain(latents[-1])
            mask = None if mask_B11S is None else mask_B11S[..., : longest + 1 + step]
            output = backbone.body(
                inputs_embeds=fed_BD[:, None],
                past_key_values=cache,
                use_cache=True,
                position_ids=(lengths_B + step)[:, None],
                attention_mask=mask,
            )
            latents.append(output.last_hidden_state[:, 0])
    return torch.stack(latents, dim=1)


def read_tokens(backbone: Backbone, prefix_BSD: torch.Tensor, ids_BL: torch.Tensor) -> Reading:
    """One parallel forward over prefix and tokens. Right padding changes nothing to its left: attention is causal.

    Raises NotFiniteError: a lead that is no number is above no margin, and below none.
    """
    embeds = torch.cat([prefix_BSD, backbone.embed(ids_BL[:, :-1])], dim=1)
    hidden = backbone.body(inputs_embeds=embeds, use_cache=False).last_hidden_state
    hidden_ND = hidden[:, prefix_BSD.shape[1] - 1 :].reshape(-1, hidden.shape[-1])
    rivals, leads = [], []
    for states_RD, ids_R in zip(hidden_ND.split(HEAD_ROWS), ids_BL.reshape(-1).split(HEAD_ROWS), strict=True):
        rival_R, lead_R = rival(backbone.head(states_RD), ids_R)
        rivals.append(rival_R)
        leads.append(lead_R)
    rival_BL, lead_BL = torch.cat(rivals).view_as(ids_BL), torch.cat(leads).view_as(ids_BL)
    require_finite(lead_BL, "leads are", rows="chunk")
    return Reading(rival_BL, lead_BL, torch.where(lead_BL > 0, ids_BL, rival_BL))


def draft_tokens(backbone: Backbone, prefix_BSD: torch.Tensor, forced_BL: torch.Tensor) -> torch.Tensor:
    """Greedy tokens [B, L] after the prefix, KV-cached. A position whose `forced_BL` is >= 0 takes that token.

    Raises NotFiniteError, once all is drafted: asking at each step would hold a GPU up at each step.
    """
    _batch, longest = forced_BL.shape
    cache = roomy_cache(backbone.model.config, prefix_BSD.shape[1] + longest)
    tokens_BL = torch.empty_like(forced_BL)
    embeds, sums_B = prefix_BSD, torch.zeros(len(forced_BL), device=prefix_BSD.device)
    for position in range(longest):
        hidden = backbone.body(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state
        sums_B += hidden[:, -1].float().sum(-1)  # NaN and infinity stay in a sum
        greedy_B = backbone.head(hidden[:, -1]).argmax(-1)
        forced_B = forced_BL[:, position]
        tokens_BL[:, position] = torch.where(forced_B >= 0, forced_B, greedy_B)
        embeds = backbone.embed(tokens_BL[:, position, None])
    require_finite(sums_B, "a draft's states are", rows="draft")
    return tokens_BL


def rival(logits_RV: torch.Tensor, ids_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The best token but the given one, and the given one's lead over it, in one pass over the vocabulary.

    In place: the given one's logit is gone afterwards.
    """
    own_R = logits_RV.gather(-1, ids_R[:, None])[:, 0]
    logits_RV.scatter_(-1, ids_R[:, None], float("-inf"))
    best_R, rival_R = logits_RV.max(-1)
    return rival_R, own_R.float() - best_R.float()


def _step_mask(lengths_B: torch.Tensor, longest: int, num_latents: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Additive mask [B, 1, 1, S] that hides right padding from the latent steps.

    None where nothing is padded, but on a CPU: without a mask sdpa goes over keys and values once for each query head,
    in bf16 6 times slower than once for each key-value head (docs/decisions.md).
    """
    if lengths_B.device.type != "cpu" and bool((lengths_B == longest).all()):
        return None
    positions_S = torch.arange(longest + num_latents, device=lengths_B.device)
    hidden_BS = (positions_S > lengths_B[:, None]) & (positions_S <= longest)
    return torch.zeros(hidden_BS.shape, dtype=dtype, device=lengths_B.device).masked_fill(
        hidden_BS, torch.finfo(dtype).min
    )[:, None, None]
