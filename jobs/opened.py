"""A bank with the codec that reads it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.identity import codec_identity
from model.config import ExactConfig
from pipeline import storage
from pipeline.bank import CODEC, Bank

if TYPE_CHECKING:
    from model.codec import Codec


def open_bank(uri: str) -> Bank:
    return Bank.open(storage.absolute(uri))


@contextmanager
def local_codec(bank: Bank) -> Iterator[str]:
    """The bank's codec as a local folder: its own, or a temporary copy of one on an object store."""
    if bank.folder.is_local:
        yield bank.codec_path
        return
    with tempfile.TemporaryDirectory(prefix="nextmem-codec-") as folder:
        for name in bank.folder.names(CODEC):
            storage.write_whole(storage.join(folder, name.rsplit("/", 1)[-1]), bank.folder.read(name))
        yield folder


def load_bank_codec(bank: Bank, *, backbone: str | None = None) -> Codec:
    """The codec that made the bank's rows, at the precision that verified them. Raises ValueError if it is another."""
    from model.checkpoint import load_codec  # torch and transformers: 8 seconds that `info` and `export` need not spend

    exact = ExactConfig(bank.identity.verify_precision, bank.identity.verify_margin)
    with local_codec(bank) as folder:
        bank.require(codec_identity(folder, exact))
        return load_codec(folder, backbone_name=backbone, exact=exact)
