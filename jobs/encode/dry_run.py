"""`nextmem encode --dry-run`: plan for real, sample, and say what encoding would take. Writes nothing, starts no Ray.

Only the codec's folder may be made, in the user's cache, as the first encode would: sizes and tokens depend on it.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

import pyarrow.compute as pc

from jobs.cluster.session import this_machine
from jobs.encode.planning import plan_request
from jobs.encode.request import EncodeRequest, codec_folder, encode_options, existing_bank, wants_gpus
from jobs.output import duration
from model.codec_folder import read_settings
from model.rate import row_sizes
from pipeline.bank.bank import Bank
from pipeline.bank.presence import job_records
from pipeline.encode.bank_work import bank_work
from pipeline.encode.options import EncodeOptions
from pipeline.encode.sample import UnitSample, take_sample
from pipeline.plan.plan import Plan, Work
from pipeline.schema import STEMS
from pipeline.storage import storage

RUN_CHUNKS = 64  # a run shorter than this says little of the rate
ID_BYTES = 80  # of a row's ids, hashes and offsets, as stored


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an encode would do, and what that would take."""

    bank: str
    units: int
    documents: int  # to encode
    held: int
    replaced: int
    duplicates: int
    rejected: int
    forgotten: int  # left out because the bank was told to forget them
    passed_over: dict[str, int]  # files of other formats in folders, by ending
    chunks: int  # estimated from the sample, as everything below is
    tokens: int
    bytes: int
    sampled_units: int
    sampled_chunks: int
    workers: int
    chunks_per_second: float | None  # of one worker
    rate_from: str
    device_hours: float | None
    hours: float | None  # with all workers at once
    price_per_hour: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Rate:
    """Of one worker; None where there is nothing to encode."""

    chunks_per_second: float | None
    source: str


def run_dry(request: EncodeRequest) -> Estimate:
    """Raises what `run_encode` raises before it encodes."""
    uri, cluster = storage.absolute(request.bank), this_machine()
    gpus = wants_gpus(request, cluster)
    folder, verifying = codec_folder(request, uri, gpus=gpus)
    bank = existing_bank(uri)
    with tempfile.TemporaryDirectory(prefix="nextmem-") as scratch:
        plan = plan_request(request, uri, folder, gpus=gpus, scratch=scratch)
        work = _work(plan, bank, request)
        options = encode_options(request, uri, folder, plan.columns, verifying, cluster, gpus=gpus)
        sample = take_sample(work, options)
        rate = _rate(request, bank, sample, options)
        return _estimate(request, bank, plan, work, sample, options, rate)


def _work(plan: Plan, bank: Bank | None, request: EncodeRequest) -> Work:
    if bank is None:
        return plan.against()
    bank.require_metadata(plan.columns.metadata_fields)
    return bank_work(plan, bank, retry_rejected=request.retry_rejected)


def _rate(request: EncodeRequest, bank: Bank | None, sample: UnitSample, options: EncodeOptions) -> Rate:
    """Who says it: the command line, else the bank's last run, else a trial on this machine."""
    if request.settings.chunks_per_second is not None:
        return Rate(request.settings.chunks_per_second, "as given")
    for run in job_records(bank.folder) if bank is not None else ():
        if run.kind == "encode" and run.encoded >= RUN_CHUNKS and run.chunks_per_second:
            how = (
                f"{run.encoded:,} chunks on {run.workers} {run.device} workers, {duration(time.time() - run.beat)} ago"
            )
            return Rate(run.chunks_per_second / max(1, run.workers), f"measured by the bank's last run: {how}")
    if not sample.chunks.num_rows:
        return Rate(None, "nothing to measure it with")
    from pipeline.encode.trial import measured_rate  # torch: 8 seconds that a known rate need not cost

    where = "its GPU" if options.gpus else f"{options.threads} threads"
    return Rate(measured_rate(sample.chunks, options), f"measured now on this machine, {where}")


def _estimate(
    request: EncodeRequest,
    bank: Bank | None,
    plan: Plan,
    work: Work,
    sample: UnitSample,
    options: EncodeOptions,
    rate: Rate,
) -> Estimate:
    counts, price = work.counts, request.settings.price_per_hour
    chunks = sample.scaled(sample.chunks.num_rows, counts.chunks)
    workers = max(1, min(options.actors, counts.units))
    hours = chunks / rate.chunks_per_second / 3600 if rate.chunks_per_second else None
    return Estimate(
        bank=options.bank,
        units=counts.units,
        documents=counts.documents,
        held=counts.held,
        replaced=counts.changed,
        duplicates=plan.counts.duplicates,
        rejected=counts.rejected,
        forgotten=counts.forgotten,
        passed_over=plan.counts.passed_over,
        chunks=chunks,
        tokens=sample.scaled(sample.tokens, counts.chunks),
        bytes=round(chunks * _row_bytes(bank, sample, options)),
        sampled_units=sample.units,
        sampled_chunks=sample.chunks.num_rows,
        workers=workers,
        chunks_per_second=rate.chunks_per_second,
        rate_from=rate.source,
        device_hours=hours,
        hours=None if hours is None else hours / workers,
        price_per_hour=price,
        cost=None if hours is None or price is None else hours * price,
    )


def _row_bytes(bank: Bank | None, sample: UnitSample, options: EncodeOptions) -> float:
    """Bytes a chunk: as the bank's own rows take, else what the codec's shapes add up to.

    The patch is counted as raw token ids, its longest form, which an untrained codec mostly takes; a text unpacked.
    """
    if bank is not None and bank.count():
        return bank.stored_bytes() / bank.count()
    settings, chunks = read_settings(options.codec), max(1, sample.chunks.num_rows)
    rate, config = options.verifying.rate, settings["config"]
    latents = rate.stored(config["num_latents"])
    shapes = sum(row_sizes(rate.quantiser(config["quantiser"]), latents, settings["hidden_width"]))
    shapes += 4 * settings["embedding_width"]
    patch = 2 * sample.tokens / chunks if options.verify else 0
    text = sample.text_bytes / chunks if options.keep_text else 0
    words = (pc.sum(pc.binary_length(sample.chunks[STEMS])).as_py() or 0) / chunks
    return shapes + patch + text + words + ID_BYTES
