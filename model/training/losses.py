"""The losses of both stages, each over one right-padded batch.

Shapes: B chunks, L text tokens (the longest of the batch), s latents of this sub-stage, K latents in all, P positions
of a forward, D hidden width, V vocabulary, N labels. Pad ids are never looked at: lengths say what is real, and under
causal attention nothing right of a label can reach it.
Source: NextMem (arXiv 2603.15634), the two stages; the parallel form of stage 2 is ours (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.latents import encode_latents
from model.slots import slot_latents
from model.straight_through import through_nf4
from model.training.head_loss import HeadLoss

if TYPE_CHECKING:
    from model.training.trainee import Trainee


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded chunks on the backbone's device."""

    ids_BL: torch.Tensor  # int64
    lengths_B: torch.Tensor  # int64, at least 1 each
    read_BL: torch.Tensor | None = None  # int64, what the decoder reads in their place; they stay the labels


@dataclass(frozen=True, slots=True)
class Scored:
    """Sums over the labels of a batch: every chunk's tokens and its end-of-text, L + 1 each."""

    loss: torch.Tensor  # scalar with graph
    correct: torch.Tensor  # scalar, labels whose argmax is right


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the decoder reads before the text, the marker last. Rows are right-padded."""

    embeds_BPD: torch.Tensor
    lengths_B: torch.Tensor


def make_batch(
    chunks: Sequence[np.ndarray], device: torch.device, *, read: Sequence[np.ndarray] | None = None
) -> Batch:
    """Right-padded with zeros, which are never looked at. `read`: of the same lengths, see `Batch.read_BL`."""
    lengths_B = torch.tensor([len(chunk) for chunk in chunks], device=device)
    return Batch(_padded(chunks, device), lengths_B, None if read is None else _padded(read, device))


def _padded(chunks: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    ids_BL = np.zeros((len(chunks), max(map(len, chunks))), dtype=np.int64)
    for row, chunk in zip(ids_BL, chunks, strict=True):
        row[: len(chunk)] = chunk
    return torch.from_numpy(ids_BL).to(device)


def stage1_loss(trainee: Trainee, batch: Batch) -> Scored:
    """Reconstruction: `x, [SoD], x, [EoT]`, cross-entropy on the second x and the end. Gradient: decoder, marker."""
    with trainee.adapter("decoder"):
        return reconstruction(trainee, text_prefix(trainee, batch), batch)


def stage2_loss(trainee: Trainee, batch: Batch, substage: int, *, quantise: bool = False) -> Scored:
    """Substitution: `h_1..h_s`, the text they do not yet stand for, `[SoD]`; the target is all of x and the end.

    Exactly the gradient of the s-fold loop over detached latents, in two forwards with gradient: since fed-back latents
    are constants, all s come out of one teacher-forced pass. With `quantise` the decoder reads what NF4 keeps of them.
    """
    latents_BsD = parallel_latents(trainee, batch, substage)
    if quantise:
        mean_D, deviation_D = trainee.statistics.mean_D, trainee.statistics.deviation_D
        latents_BsD = through_nf4(latents_BsD, mean_D.to(latents_BsD.device), deviation_D.to(latents_BsD.device))
    prefix = latent_prefix(trainee, batch, latents_BsD)
    with trainee.adapter("decoder"):
        return reconstruction(trainee, prefix, batch)


def plain_loss(trainee: Trainee, batch: Batch) -> Scored:
    """The backbone alone on the same labels, no latents before them: what a useful latent must beat.

    The text is read after an end-of-text token, as at the start of a document.
    """
    start_D = trainee.backbone.embed(torch.tensor(trainee.backbone.end_token, device=batch.ids_BL.device))
    prefix = Prefix(start_D.expand(len(batch.ids_BL), 1, -1), torch.ones_like(batch.lengths_B))
    with trainee.wrapped.disable_adapter():
        scored = reconstruction(trainee, prefix, batch)
    return scored


def tokens_covered(lengths_B: torch.Tensor, substage: int, num_latents: int) -> torch.Tensor:
    """How many leading tokens s of K latents stand for: ceil(L * s / K)."""
    return -(-lengths_B * substage // num_latents)


def parallel_latents(trainee: Trainee, batch: Batch, substage: int) -> torch.Tensor:
    """Latents [B, s, D] with gradient, from one causal forward over `x, [SoD], h_1..h_{s-1}` (the h without), or over
    `x` and s slots."""
    backbone, lengths_B = trainee.backbone, batch.lengths_B
    if trainee.slots_KD is not None:
        with trainee.adapter("encoder"), trainee.recomputing():
            return slot_latents(backbone, batch.ids_BL, lengths_B, trainee.slots_KD[:substage])
    with trainee.adapter("encoder"):
        pieces = [backbone.embed(batch.ids_BL), trainee.marker_D.expand(len(lengths_B), 1, -1)]
        if substage > 1:
            pieces.append(_fed_back(trainee, batch, substage - 1))
        order_BP = _joined([(0, lengths_B)], after=batch.ids_BL.shape[1], count=substage)
        embeds_BPD = _rows(torch.cat(pieces, dim=1), order_BP)
        with trainee.recomputing():
            hidden_BPD = backbone.body(inputs_embeds=embeds_BPD, use_cache=False).last_hidden_state
    return _rows(hidden_BPD, lengths_B[:, None] + torch.arange(substage, device=lengths_B.device))


def text_prefix(trainee: Trainee, batch: Batch) -> Prefix:
    """Stage 1: the decoder's start, the text itself, then the marker."""
    return _between(trainee, trainee.backbone.embed(batch.ids_BL), [(0, batch.lengths_B)], batch.lengths_B)


def latent_prefix(trainee: Trainee, batch: Batch, latents_BsD: torch.Tensor) -> Prefix:
    """Stage 2: the start, s latents through the gain, the text from the first token none stands for, the marker.

    Nested latents stand for all of the text, however few they are.
    """
    substage = latents_BsD.shape[1]
    read_BsD = trainee.gain.to(trainee.backbone.dtype)(latents_BsD.to(trainee.backbone.dtype))
    all_of_them = substage if trainee.nested else trainee.config.num_latents
    covered_B = tokens_covered(batch.lengths_B, substage, all_of_them)
    source_BPD = torch.cat([read_BsD, trainee.backbone.embed(batch.ids_BL)], dim=1)
    segments = [(0, torch.full_like(covered_B, substage)), (substage + covered_B, batch.lengths_B - covered_B)]
    return _between(trainee, source_BPD, segments, substage + batch.lengths_B - covered_B)


def reconstruction(trainee: Trainee, prefix: Prefix, batch: Batch) -> Scored:
    """Cross-entropy of the text and its end after the prefix; logits only where there are labels."""
    backbone, lengths_B = trainee.backbone, batch.lengths_B
    width = prefix.embeds_BPD.shape[1]
    read_BL = batch.ids_BL if batch.read_BL is None else batch.read_BL
    source_BPD = torch.cat([prefix.embeds_BPD, backbone.embed(read_BL)], dim=1)
    order_BP = _joined([(0, prefix.lengths_B)], after=width, count=batch.ids_BL.shape[1])
    with trainee.recomputing():
        hidden_BPD = backbone.body(inputs_embeds=_rows(source_BPD, order_BP), use_cache=False).last_hidden_state
    places_L = torch.arange(batch.ids_BL.shape[1] + 1, device=lengths_B.device)
    real_BL = places_L <= lengths_B[:, None]
    states_BLD = _rows(hidden_BPD, prefix.lengths_B[:, None] - 1 + places_L)
    labels_BL = torch.nn.functional.pad(batch.ids_BL, (0, 1)).masked_fill(
        places_L == lengths_B[:, None], trainee.backbone.end_token
    )
    return Scored(*HeadLoss.apply(states_BLD[real_BL], backbone.head.weight, labels_BL[real_BL], trainee.compiles))


def _fed_back(trainee: Trainee, batch: Batch, count: int) -> torch.Tensor:
    """h_1..h_count through the gain, generated over the KV cache without gradient."""
    with torch.no_grad(), trainee.generating():
        gain = trainee.gain.to(trainee.backbone.dtype)
        return gain(encode_latents(trainee.backbone, batch.ids_BL, batch.lengths_B, trainee.marker_D, gain, count))


def _between(trainee: Trainee, source_BPD: torch.Tensor, segments, lengths_B: torch.Tensor) -> Prefix:
    """Segments of the source between the decoder's start and the marker."""
    start_BSD, marker_B1D = (
        part.expand(len(source_BPD), -1, -1) for part in (trainee.start_SD, trainee.marker_D[None])
    )
    order_BP = _joined(segments, after=source_BPD.shape[1], count=1)
    embeds_BPD = _rows(torch.cat([source_BPD, marker_B1D], dim=1), order_BP)
    return Prefix(torch.cat([start_BSD, embeds_BPD], dim=1), lengths_B + 1 + start_BSD.shape[1])


def _joined(segments, *, after: int, count: int) -> torch.Tensor:
    """Index map [B, P]: each row's segments (start, length) of a source in turn, then `count` from `after` on.

    A start is a number or one a row. Past a row's end the map repeats the source's last position: padding.
    """
    lengths = [length_B for _, length_B in segments]
    total_B = torch.stack(lengths).sum(0)
    places_P = torch.arange(int(total_B.max()) + count, device=total_B.device)
    order_BP = (after + places_P - total_B[:, None]).clamp_max(after + count - 1)
    done_B = total_B
    for start, length_B in reversed(segments):
        done_B = done_B - length_B
        start_B1 = start[:, None] if torch.is_tensor(start) else start
        inside_BP = (places_P >= done_B[:, None]) & (places_P < (done_B + length_B)[:, None])
        order_BP = torch.where(inside_BP, start_B1 + places_P - done_B[:, None], order_BP)
    return order_BP


def _rows(source_BPD: torch.Tensor, order_BQ: torch.Tensor) -> torch.Tensor:
    """source[b, order[b, q]]; indices past the end, which only padding has, are held to the last."""
    order_BQ = order_BQ.clamp(0, source_BPD.shape[1] - 1)
    return source_BPD.gather(1, order_BQ[..., None].expand(-1, -1, source_BPD.shape[-1]))
