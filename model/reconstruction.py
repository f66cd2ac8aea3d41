"""How much of a text its latents alone give back: drafts, free-running, dense and through NF4.

Patches are left aside: with them recall is exact for any codec. F1 is the paper's: words of the lower-cased text as a
bag. With 99 % of its tokens right under teacher forcing a text can still come back wrong as a whole: both are measured.
Shapes: B chunks, L tokens, K latents, D hidden width.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.batches import batches
from model.codec import Codec
from model.latents import read_tokens
from model.patch import RAW

BATCH = 32
TELLING = re.compile(r"\b(?:[A-Z]\w*|\w*\d\w*)\b")  # names and numbers, and what begins a sentence


@dataclass(frozen=True, slots=True)
class Drafted:
    """Drafts against the texts that were encoded. Shares from 0 to 1."""

    f1: float  # mean over chunks, as the paper counts it
    whole: float  # share of chunks that come back whole, and end where the text ends
    names_and_numbers: float  # share of capitalised words and of words with digits that come back, mean over chunks
    tokens: float  # share of positions with the right token


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Of one set of passages."""

    chunks: int
    tokens: int
    dense: Drafted
    nf4: Drafted
    fidelity: float  # share of positions right under teacher forcing, through NF4
    plain: float  # the same of the backbone alone, no latents before the text
    forced: float  # share of positions that the patch forces, raw rows counted whole
    raw: float  # share of chunks stored as token ids
    patch_bytes: float  # median


@torch.inference_mode()
def reconstruct(codec: Codec, chunks: Sequence[np.ndarray], *, batch_size: int = BATCH) -> Reconstruction:
    """Encode chunks and draft them (token ids, 1 to chunk_tokens each). ValueError for none."""
    if not chunks:
        raise ValueError("nothing to reconstruct: there are no chunks")
    measured = [
        each for group in batches([len(c) for c in chunks], batch_size) for each in _batch(codec, chunks, group)
    ]
    tokens = sum(each.tokens for each in measured)
    return Reconstruction(
        chunks=len(measured),
        tokens=tokens,
        dense=_drafted([each.dense for each in measured], tokens),
        nf4=_drafted([each.nf4 for each in measured], tokens),
        fidelity=sum(each.right for each in measured) / tokens,
        plain=sum(each.plain for each in measured) / tokens,
        forced=sum(each.forced for each in measured) / tokens,
        raw=statistics.fmean(each.raw for each in measured),
        patch_bytes=statistics.median(each.patch_bytes for each in measured),
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    """One chunk, drafted one way."""

    f1: float
    whole: bool
    names_and_numbers: float | None  # None where the text has none
    right: int  # positions


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Counts are of positions."""

    tokens: int
    dense: _Compared
    nf4: _Compared
    right: float
    plain: int
    forced: int
    raw: bool
    patch_bytes: int


def _batch(codec: Codec, chunks: Sequence[np.ndarray], group: list[int]) -> Iterator[_Chunk]:
    some = [chunks[i] for i in group]
    ids_BL, lengths_B = codec.pad(some)
    latents_BKD = codec.encode(ids_BL, lengths_B)
    both = torch.cat([latents_BKD, codec.dequantise(*codec.quantise(latents_BKD)).to(latents_BKD)])
    drafts = codec.draft(both, 2 * [len(ids) for ids in some])  # in one batch: a step's cost hardly grows with its rows
    dense, kept = drafts[: len(some)], drafts[len(some) :]
    plain_BL = _plain(codec, ids_BL).cpu().numpy()
    for place, (ids, memory) in enumerate(zip(some, codec.keep(latents_BKD, some), strict=True)):
        patch = codec.patches.unpack(memory.patch)
        yield _Chunk(
            tokens=len(ids),
            dense=_compared(codec, ids, dense[place]),
            nf4=_compared(codec, ids, kept[place]),
            right=memory.fidelity * len(ids),
            plain=int((plain_BL[place, : len(ids)] == ids).sum()),
            forced=round((1 - patch.carried(len(ids))) * len(ids)),
            raw=patch.kind == RAW,
            patch_bytes=len(memory.patch),
        )


def _plain(codec: Codec, ids_BL: torch.Tensor) -> torch.Tensor:
    """What the backbone alone holds likeliest at each position [B, L], the text before it given."""
    start = torch.tensor(codec.backbone.end_token, device=ids_BL.device)
    prefix_B1D = codec.backbone.embed(start).expand(len(ids_BL), 1, -1)
    with codec.plain():
        return read_tokens(codec.backbone, prefix_B1D, ids_BL).argmax_BL


def _compared(codec: Codec, ids: np.ndarray, found: np.ndarray) -> _Compared:
    text, drafted = (codec.tokenizer.decode(some.tolist()) for some in (ids, found))
    telling = Counter(TELLING.findall(text))
    shared = (telling & Counter(TELLING.findall(drafted))).total()
    return _Compared(
        f1=word_f1(text, drafted),
        whole=bool(np.array_equal(ids, found)),
        names_and_numbers=shared / telling.total() if telling else None,
        right=int((ids[: len(found)] == found[: len(ids)]).sum()),
    )


def _drafted(compared: Sequence[_Compared], tokens: int) -> Drafted:
    telling = [each.names_and_numbers for each in compared if each.names_and_numbers is not None]
    return Drafted(
        f1=statistics.fmean(each.f1 for each in compared),
        whole=statistics.fmean(each.whole for each in compared),
        names_and_numbers=statistics.fmean(telling) if telling else 1.0,
        tokens=sum(each.right for each in compared) / tokens,
    )


def word_f1(text: str, drafted: str) -> float:
    """F1 of two bags of lower-cased words, parted by white space; 1 where both are empty."""
    wanted, found = Counter(text.lower().split()), Counter(drafted.lower().split())
    if not wanted or not found:
        return float(wanted == found)
    shared = (wanted & found).total()
    return 2 * shared / (wanted.total() + found.total())
