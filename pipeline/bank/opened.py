"""A bank with the codec that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.identity import codec_identity, verify_config
from pipeline.storage import storage

if TYPE_CHECKING:
    from model.codec import Codec


def open_bank(uri: str, *, version: int | None = None) -> Bank:
    """The bank at a path or URI. Raises FileNotFoundError."""
    return Bank.open(storage.absolute(uri), version=version)


def load_bank_codec(bank: Bank, *, backbone: str | None = None) -> Codec:
    """The codec that made the bank's rows, computed as when they were verified. Raises ValueError if it is another."""
    from model.codec_io import load_codec  # torch and transformers: 8 seconds that `info` and `export` need not spend

    verifying = verify_config(bank.identity)
    folder = local_codec(bank.codec_path)
    bank.require(codec_identity(folder, verifying))
    return load_codec(folder, backbone_name=backbone, verifying=verifying)
