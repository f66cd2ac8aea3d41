"""An empty memory bank, to be filled bit by bit: what an agent begins with."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from typing import TypeAlias

import pyarrow as pa

from model.refusal import Refusal
from nextmem.bank import Bank
from pipeline.bank.bank import Bank as Table
from pipeline.bank.identity import codec_identity
from pipeline.storage import storage

Kind: TypeAlias = type | pa.DataType
KINDS: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
    datetime.datetime: pa.timestamp("us", tz="UTC"),
    datetime.date: pa.date32(),
}


def create(
    bank: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str] | None = None,
    backbone: str | None = None,
    columns: Mapping[str, Kind] | None = None,
    precision: str = "auto",
    latents: int | None = None,
    bits: int | None = None,
) -> Bank:
    """A new bank without rows, in an empty folder or at `s3://bucket/key`, opened. No Ray, and no backbone is loaded.

    `codec`: a folder; without one, the codec that ships for the backbone. `columns`: your own, by name, as Python types
    (str, int, float, bool, bytes, datetime, date) or pyarrow's. `precision`: what rows are verified in, as
    `Codec.load` takes it. Rows store the first `latents` of each chunk, in `bits` (4, 3 or 2) a value: docs/rate.md.
    Raises FileExistsError where something lies there already, Refusal for a column that a bank can't hold.
    """
    from model.backbone import default_device
    from model.config import VerifyConfig
    from model.default_codec import default_codec_folder
    from model.embedded import EMBEDDED
    from model.precision import default_precision
    from model.rate import FULL, Rate

    rate = Rate(latents, bits or FULL)
    verifying = VerifyConfig.of(default_precision(default_device()) if precision == "auto" else precision, rate)
    folder = os.fspath(codec) if codec is not None else str(default_codec_folder(backbone or EMBEDDED))
    fields = tuple(pa.field(name, _arrow(name, kind)) for name, kind in (columns or {}).items())
    table = Table.create(storage.absolute(os.fspath(bank)), codec_identity(folder, verifying), fields, codec=folder)
    return Bank(table, backbone=backbone)


def _arrow(name: str, kind: Kind) -> pa.DataType:
    if isinstance(kind, pa.DataType):
        return kind
    if kind not in KINDS:
        known = ", ".join(each.__name__ for each in KINDS)
        raise Refusal(f"the column {name!r} is to be {kind!r}: wanted one of {known}, or a pyarrow type")
    return KINDS[kind]
