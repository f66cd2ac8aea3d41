"""A bank with another codec's embeddings, from Python."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.bank.count import Told

if TYPE_CHECKING:
    from pipeline.bank.convert import Converted


def convert(
    bank: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str],
    backbone: str | None = None,
    on_progress: Told = lambda done, of: None,
) -> Converted:
    """Write the rows of a bank to a new bank, embedded anew by a codec that makes the same latents.

    `codec` is a folder with an embedding head (docs/search.md), or the one without it. Nothing is decoded or encoded:
    the head reads the stored latents. All rows or none. Raises ValueError for a codec of other latents, and
    FileExistsError where `out` holds rows.
    """
    from pipeline.bank.convert import convert as convert_bank
    from pipeline.bank.opened import open_bank

    return convert_bank(
        open_bank(os.fspath(bank)), os.fspath(out), os.fspath(codec), backbone=backbone, on_progress=on_progress
    )
