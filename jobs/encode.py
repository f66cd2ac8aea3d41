"""`nextmem encode`: plan the corpus, encode what the bank lacks, commit as it comes, say what was done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from jobs.cluster import Cluster, Session
from jobs.identity import codec_identity
from jobs.output import Progress
from jobs.settings import EncodeSettings
from model.codec_folder import read_settings
from model.config import CodecConfig, ExactConfig
from model.default_codec import default_codec_folder
from model.precision import default_precision
from pipeline import storage
from pipeline.attempts import RemoteLedger
from pipeline.bank import PLAN, Bank
from pipeline.codec_copy import local_codec
from pipeline.committing import commit_as_they_come
from pipeline.documents import Columns
from pipeline.encode import encode
from pipeline.identity import CodecIdentity
from pipeline.options import EncodeOptions
from pipeline.plan import Plan, Work, plan_corpus
from pipeline.summary import Summary, Tally, summarise

DEFAULT_BACKBONE = "smollm2-135m"
UNIT_CHUNKS = {"cpu": 64, "cuda": 2048}
CORES_AN_ACTOR = 4  # at most, on a CPU
MAX_UNIT_BYTES = 128_000_000


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """What the command line asked for."""

    corpus: tuple[str, ...]
    bank: str
    columns: Columns
    settings: EncodeSettings
    config: CodecConfig  # of the untrained codec, where one is made
    codec: str | None = None
    backbone: str | None = None
    actors: int | None = None
    keep_text: bool = False
    verify: bool = True


@dataclass(frozen=True, slots=True)
class EncodeResult:
    summary: Summary
    failures: tuple[tuple[str, str], ...]  # (unit id, reason)
    bank: str
    codec: str  # its identity

    @property
    def complete(self) -> bool:
        return not self.failures and not self.summary.rejected


def run_encode(job: EncodeJob, *, as_json: bool = False) -> EncodeResult:
    """Encode the corpus into the bank; what the bank holds already is not done again.

    Raises ValueError, FileNotFoundError or OSError for what a person can mend, KeyboardInterrupt after committing.
    """
    started = time.monotonic()
    uri = storage.absolute(job.bank)
    tally = Tally()
    with Session() as session:
        folder, exact = _codec_folder(job, uri, session.look())
        identity = codec_identity(folder, exact)
        plan = plan_corpus(
            [_absolute(argument) for argument in job.corpus],
            job.columns,
            unit_chunks=_unit_chunks(job, folder, session.look()),
            folder=storage.join(uri, PLAN),
        )
        bank = _bank(uri, folder, identity, plan)
        finished = bank.finished_units(plan.unit_ids())
        replacements = bank.replacements()
        held = bank.documents(but_of=frozenset() if replacements else finished)
        work = plan.against(held, finished, replacements=replacements)
        began = time.monotonic()
        if work.counts.units:
            began = _encode(bank, work, _options(job, bank, plan, exact, session.start()), job, tally, as_json)
        ended = time.monotonic()
    summary = summarise(
        tally,
        held=plan.counts.documents - work.counts.documents,
        duplicates=plan.counts.duplicates,
        replaced=work.counts.changed,
        seconds=ended - began,
        start_up_seconds=began - started,
        price_per_hour=job.settings.price_per_hour,
    )
    return EncodeResult(summary, tuple(tally.failures), uri, bank.identity.codec_hash)


def _encode(bank: Bank, work: Work, options: EncodeOptions, job: EncodeJob, tally: Tally, as_json: bool) -> float:
    """Returns when the first unit began to be encoded: what came before it is start-up."""
    progress = Progress(work.counts.chunks, as_json=as_json)
    began, ledger = None, RemoteLedger()

    def show() -> None:
        progress.update(max(tally.chunks, ledger.total()), tally.rejected)

    try:
        outcomes = encode(work.units(), options, ledger)
        for group in commit_as_they_come(bank, outcomes, every=job.settings.commit_seconds, on_wait=show):
            began = began or min(outcome.started for outcome in group)
            tally.add(group)
            show()
    finally:
        progress.close()
    return time.monotonic() if began is None else time.monotonic() - (time.time() - began)


def _codec_folder(job: EncodeJob, uri: str, cluster: Cluster) -> tuple[str, ExactConfig]:
    """The codec to encode with: the bank's own where it exists, else the one named, else the backbone's untrained one.

    An existing bank fixes precision and margin too: its rows must all recall alike.
    """
    try:
        bank = Bank.open(uri)
    except FileNotFoundError:
        bank = None
    if bank is not None:
        exact = ExactConfig(bank.identity.verify_precision, bank.identity.verify_margin)
        if job.codec is not None:
            bank.require(codec_identity(local_codec(job.codec), exact))
        return local_codec(bank.codec_path), exact
    precision = job.settings.precision
    exact = ExactConfig.of(default_precision(_device(cluster)) if precision == "auto" else precision)
    if job.settings.margin is not None:
        exact = ExactConfig(exact.precision, job.settings.margin)
    backbone = job.backbone or DEFAULT_BACKBONE
    if job.codec is not None:
        return local_codec(job.codec), exact
    return str(default_codec_folder(backbone, job.config, precision=exact.precision).absolute()), exact


def _bank(uri: str, codec: str, identity: CodecIdentity, plan: Plan) -> Bank:
    """The bank, made where there is none. Refused where it carries other columns."""
    try:
        bank = Bank.open(uri)
    except FileNotFoundError:
        return Bank.create(uri, identity, plan.columns.fields, codec=codec)
    bank.require_metadata(plan.columns.fields)
    return bank


def _options(job: EncodeJob, bank: Bank, plan: Plan, exact: ExactConfig, cluster: Cluster) -> EncodeOptions:
    actors = job.actors or cluster.gpus or _cpu_actors(job, cluster)
    return EncodeOptions(
        bank=bank.folder.uri,
        codec=bank.codec_path,
        exact=exact,
        columns=plan.columns,
        backbone=_named_backbone(job.backbone),
        keep_text=job.keep_text,
        verify=job.verify,
        batch_size=job.settings.batch_size,
        actors=actors,
        threads=job.settings.threads or max(1, cluster.cores // actors),
        gpus=cluster.gpus > 0,
    )


def _cpu_actors(job: EncodeJob, cluster: Cluster) -> int:
    """One actor a group of cores: an actor holds the backbone's weights, so one a core would fill a large machine."""
    return max(1, cluster.cores // (job.settings.threads or CORES_AN_ACTOR))


def _device(cluster: Cluster) -> str:
    return "cuda" if cluster.gpus else "cpu"


def _unit_chunks(job: EncodeJob, codec: str, cluster: Cluster) -> int:
    """Seconds of work, and at most 128 MB of rows."""
    settings = read_settings(codec)
    row_bytes = settings["hidden_width"] * settings["config"]["num_latents"] // 2 + 8 * settings["embedding_width"]
    wanted = job.settings.unit_chunks or UNIT_CHUNKS[_device(cluster)]
    return max(1, min(wanted, MAX_UNIT_BYTES // row_bytes))


def _absolute(argument: str) -> str:
    return argument if argument.startswith("hf:") else storage.absolute(argument)


def _named_backbone(name: str | None) -> str | None:
    """A folder is made absolute: workers run in another one."""
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name
