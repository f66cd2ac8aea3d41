"""What an encode job is asked for, and what that means: which codec, which devices, how large a unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from jobs.cluster.session import Cluster
from jobs.settings import EncodeSettings
from model.codec_folder import read_settings
from model.config import CodecConfig, RefineConfig, VerifyConfig
from model.default_codec import UNTRAINED, default_codec_folder, untrained_codec_folder
from model.embedded import EMBEDDED
from model.precision import default_precision
from model.rate import FULL, Rate
from model.refusal import Refusal
from model.weights import find_weights
from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.identity import codec_identity, verify_config
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode.options import EncodeOptions
from pipeline.storage import storage

UNIT_CHUNKS, UNIT_CHUNKS_ON_A_CPU = 2048, {"fp32": 64, "bf16": 128}  # on a CPU about a minute of an encoder's work
CORES_AN_ACTOR = 4  # on the CPUs of a cluster, whose nodes' memory is not known
PROCESS_BYTES, WEIGHTS_COPIES = 1_000_000_000, 4  # an encoder on a CPU: itself, and what weights in bf16 become
MAX_UNIT_BYTES = 128_000_000
REFINED_CHUNKS = 4  # times fewer chunks a unit: a refined one costs tens of encodings


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """What a person asks for, on the command line or from Python."""

    corpus: tuple[str, ...]
    bank: str
    columns: ColumnRoles
    settings: EncodeSettings
    config: CodecConfig  # of an untrained codec, where one is made
    codec: str | None = None
    backbone: str | None = None
    actors: int | None = None  # encoders
    gpus: bool | None = None  # None: where there are any
    pool: str | None = None  # encoders only on nodes with the label pool=...
    keep_text: bool = False
    keep_words: bool = False
    verify: bool = True
    retry_rejected: bool = False
    refine: RefineConfig | None = None
    source: str | None = None  # a bank that is encoded anew, in the place of a corpus
    latents: int | None = None  # that a row stores, the first of each chunk's; None: the bank's, or all
    bits: int | None = None  # a value of theirs; None: the bank's, or 4


def codec_folder(request: EncodeRequest, uri: str, *, gpus: bool) -> tuple[str, VerifyConfig]:
    """The codec to encode with: the bank's own where it exists, else the one named, else the backbone's default.

    An existing bank fixes rate, precision, margin and merging too: its rows must all recall alike.
    """
    bank = existing_bank(uri)
    if bank is not None:
        verifying = verify_config(bank.identity)
        _require_rate(request, bank, verifying.rate)
        if request.codec is not None:
            bank.require(codec_identity(_asked(request, verifying), verifying))
        return local_codec(bank.codec_path), verifying
    verifying = VerifyConfig.of(_precision(request, gpus=gpus))
    margin = verifying.margin if request.settings.margin is None else request.settings.margin
    rate = Rate(request.latents, request.bits or FULL)
    verifying = VerifyConfig(verifying.precision, margin, merged=request.settings.merged, rate=rate)
    return _asked(request, verifying), verifying


def _require_rate(request: EncodeRequest, bank: Bank, held: Rate) -> None:
    """Raises Refusal where a rate was asked for that is not the bank's: all its rows are read alike."""
    if request.latents in (None, held.latents) and request.bits in (None, held.bits):
        return
    raise Refusal(
        f"{bank.folder.uri} stores {held.latents} latents a row, {held.bits} bits a value, and another rate was asked "
        "for: name a new bank, or bring this one to a lower rate with `nextmem convert`"
    )


def _asked(request: EncodeRequest, verifying: VerifyConfig) -> str:
    if request.codec not in (None, UNTRAINED):
        return local_codec(request.codec)
    make = default_codec_folder if request.codec is None else untrained_codec_folder
    return str(make(request.backbone or EMBEDDED, request.config, precision=verifying.precision).absolute())


def existing_bank(uri: str) -> Bank | None:
    try:
        return Bank.open(uri)
    except FileNotFoundError:
        return None


def wants_gpus(request: EncodeRequest, cluster: Cluster) -> bool:
    """Whether each encoder gets a GPU. ValueError where that is for a person to say.

    A cluster that starts its nodes when they are asked for shows no GPU before. Encoding there on CPUs would be a
    mistake that takes days to notice.
    """
    if request.gpus is None and not cluster.is_local and not cluster.gpus:
        raise Refusal(
            "the cluster has no GPU up now: --gpus --actors N asks for N and waits for them, --no-gpus encodes on CPUs"
        )
    if request.gpus and not cluster.gpus and cluster.is_local:
        raise Refusal("--gpus: this machine has no GPU that may be used")
    if request.gpus and not cluster.gpus and not request.actors:
        raise Refusal("--gpus: the cluster has no GPU up now, so say with --actors N how many to wait for")
    return cluster.gpus > 0 if request.gpus is None else request.gpus


def unit_chunks(request: EncodeRequest, codec: str, *, gpus: bool) -> int:
    """Seconds of work, and at most 128 MB of rows."""
    settings = read_settings(codec)
    row_bytes = settings["hidden_width"] * settings["config"]["num_latents"] // 2 + 8 * settings["embedding_width"]
    usual = UNIT_CHUNKS if gpus else UNIT_CHUNKS_ON_A_CPU[_precision(request, gpus=gpus)]
    usual //= REFINED_CHUNKS if request.refine else 1
    wanted = request.settings.unit_chunks or usual
    return max(1, min(wanted, MAX_UNIT_BYTES // row_bytes))


def encode_options(
    request: EncodeRequest,
    bank: str,
    codec: str,
    columns: ColumnRoles,
    verifying: VerifyConfig,
    cluster: Cluster,
    *,
    gpus: bool,
) -> EncodeOptions:
    """What the workers are told. `columns` is the plan's."""
    actors = request.actors or (cluster.gpus if gpus else _cpu_encoders(request, codec, cluster))
    return EncodeOptions(
        bank=bank,
        codec=codec,
        verifying=verifying,
        columns=columns,
        source=request.source,
        backbone=_named_backbone(request.backbone),
        keep_text=request.keep_text,
        keep_words=request.keep_words,
        verify=request.verify,
        refine=request.refine,
        batch_size=request.settings.batch_size,
        spot_check_rows=request.settings.spot_check_rows,
        actors=actors,
        threads=request.settings.threads or max(1, cluster.cores // actors),
        gpus=gpus,
        pool=request.pool,
    )


def absolute(argument: str) -> str:
    """A corpus argument as the workers find it."""
    return argument if argument.startswith("hf:") else storage.absolute(argument)


def _cpu_encoders(request: EncodeRequest, codec: str, cluster: Cluster) -> int:
    """One encoder a core, as far as memory goes: each holds the backbone's weights (docs/decisions.md)."""
    threads = request.settings.threads
    if not threads and not cluster.is_local:
        threads = CORES_AN_ACTOR
    if not threads:
        weights = find_weights(request.backbone or read_settings(codec)["backbone"]).size
        fit = max(1, psutil.virtual_memory().available // (PROCESS_BYTES + WEIGHTS_COPIES * weights))
        threads = math.ceil(cluster.cores / fit)
    return max(1, cluster.cores // threads)


def _precision(request: EncodeRequest, *, gpus: bool) -> str:
    asked = request.settings.precision
    return default_precision(_device(gpus)) if asked == "auto" else asked


def _device(gpus: bool) -> str:
    return "cuda" if gpus else "cpu"


def _named_backbone(name: str | None) -> str | None:
    """A folder is made absolute: workers run in another one."""
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name
