"""A bank with the codec that reads it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.identity import codec_identity, verify_config
from pipeline.bank.versions import open_version
from pipeline.storage import storage

if TYPE_CHECKING:
    from model.codec import Codec


def open_bank(uri: str, *, version: int | None = None, time: datetime | str | None = None) -> Bank:
    """The bank at a path or URI, at its newest version or at another (pipeline/bank/versions.py).

    Raises FileNotFoundError where there is none, or the version was cleaned.
    """
    if version is None and time is None:
        return Bank.open(storage.absolute(uri))
    return open_version(storage.absolute(uri), version=version, time=time)


def load_bank_codec(bank: Bank, *, backbone: str | None = None) -> Codec:
    """The codec that made the bank's rows, computed as when they were verified. Raises ValueError if it is another."""
    from model.codec_io import load_codec  # torch and transformers: 8 seconds that `info` and `export` need not spend

    verifying = verify_config(bank.identity)
    folder = local_codec(bank.codec_path)
    bank.require(codec_identity(folder, verifying))
    return load_codec(folder, backbone_name=backbone, verifying=verifying)
