"""What every worker of an encode job needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import RefineConfig, VerifyConfig
from pipeline.corpus.documents import ColumnRoles


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Paths are absolute or URIs: workers run in another folder than the command."""

    bank: str
    codec: str  # folder that every worker can read, or fetch (pipeline/bank/codec_copy.py)
    verifying: VerifyConfig
    columns: ColumnRoles  # with the Arrow fields of the metadata columns
    source: str | None = None  # a bank whose documents are recalled and encoded anew, in the place of files
    backbone: str | None = None  # the codec's own, or the same weights elsewhere
    keep_text: bool = False
    keep_words: bool = False
    verify: bool = True
    refine: RefineConfig | None = None  # None: latents as the encoder makes them
    batch_size: int | None = None  # chunks at once; None: by device
    spot_check_rows: int = 0  # recalled at once, over all encoders: what "exact" is said of
    actors: int = 1  # encoders
    threads: int = 1  # of each encoder, on a CPU
    gpus: bool = False  # one encoder a GPU
    pool: str | None = None  # encoders only on nodes with the label pool=...; None: on any
