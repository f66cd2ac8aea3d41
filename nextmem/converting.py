"""A bank with another codec's embeddings, or at a lower rate, from Python."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from model.refusal import Refusal
from pipeline.bank.count import Told

if TYPE_CHECKING:
    from pipeline.bank.convert import Converted


def convert(
    bank: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str] | None = None,
    latents: int | None = None,
    bits: int | None = None,
    rank: int | None = None,
    backbone: str | None = None,
    on_progress: Told = lambda done, of: None,
) -> Converted:
    """Write the rows of a bank to a new bank: embedded anew by a codec, or with less of the latents in each row.

    `codec` is a folder with an embedding head (docs/search.md), or the one without it. Nothing is decoded or encoded:
    the head reads the stored latents. All rows or none.
    `latents` and `bits` (4, 3 or 2 a value) say what a row of the new bank stores, `rank` along how many directions of
    the latents' width, learned from them (docs/rate.md). Each row is recalled,
    verified as it is stored now and gets a new patch, so recall stays exact. The same call goes on after a kill.

    Raises Refusal (a ValueError) for a codec of other latents and for more than the rows store, and FileExistsError
    where `out` holds rows of another making.
    """
    from pipeline.bank.convert import convert as convert_bank
    from pipeline.bank.lower_rate import lower_rate
    from pipeline.bank.opened import open_bank

    lower = any(each is not None for each in (latents, bits, rank))
    if lower == (codec is not None):
        raise Refusal("give a codec, which embeds the rows anew, or latents, bits or rank, which make them smaller")
    read, made = open_bank(os.fspath(bank)), os.fspath(out)
    if codec is None:
        return lower_rate(read, made, latents=latents, bits=bits, rank=rank, backbone=backbone, on_progress=on_progress)
    return convert_bank(read, made, os.fspath(codec), backbone=backbone, on_progress=on_progress)
