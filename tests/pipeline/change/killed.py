"""A process that changes each of three banks, and is killed there at another moment.

    python killed.py CODEC remember|edit BANK BANK BANK      prints how each ended: -9

Each bank has a fork of its own, made before the log's library has threads, so that the codec is loaded once.
"""

from __future__ import annotations

import os
import signal
import sys

import torch

from model.codec import Codec
from model.codec_io import load_codec
from model.config import VerifyConfig
from pipeline.bank.bank import Bank
from pipeline.change import put
from pipeline.change.edit import edit_everywhere
from pipeline.change.given import Columns, documents_given
from pipeline.change.remember import remember

GEESE = "Geese fly south in a wedge before the first frost."
OLD, NEW = "fox", "cat"  # of tests/works.py, ARTICLES


def main(folder: str, change: str, *banks: str) -> None:
    torch.set_num_threads(1)
    codec = load_codec(folder, verifying=VerifyConfig.of("fp32"), device="cpu")
    for bank, killing in zip(banks, (when_seen, when_written, when_committed), strict=True):
        child = os.fork()
        if not child:
            killing()
            CHANGES[change](codec, Bank.open(bank))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def tell(codec: Codec, bank: Bank) -> None:
    remember(bank, lambda: codec, documents_given(GEESE, Columns(()), {}, doc_id="geese"))


def rename(codec: Codec, bank: Bank) -> None:
    edit_everywhere(bank, lambda: codec, OLD, NEW)


CHANGES = {"remember": tell, "edit": rename}


def when_seen() -> None:
    """Its job record is there, its rows are not."""
    put.refuse_beside = die


def when_written() -> None:
    """Its file is there, and no commit names it."""
    put.swap = die


def when_committed() -> None:
    """Its job record is still there."""
    swap = put.swap
    put.swap = lambda *given: swap(*given) and die()


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
