"""What a job did, added up from its outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from pipeline.encode.outcome import Outcome


@dataclass(slots=True)
class Tally:
    """Running sums over outcomes; a share is None where there is nothing to take it of."""

    units: int = 0
    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    rejected: int = 0
    forgotten: int = 0  # left out by the commit: the bank was told to forget them while the job was at work
    bytes: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # (unit id, reason)
    numbers: Counter[str] = field(default_factory=Counter)
    workers: dict[str, float] = field(default_factory=dict)  # worker: seconds busy

    def add(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self.workers[outcome.worker] = self.workers.get(outcome.worker, 0) + outcome.numbers.get("seconds", 0)
            self.numbers.update({k: v for k, v in outcome.numbers.items() if k != "limit"})
            self.numbers["limit_flop"] += outcome.numbers.get("limit", 0) * outcome.numbers.get("encode_seconds", 0)
            if outcome.failure:
                self.failures.append((outcome.failure.unit_id, outcome.failure.reason))
            if outcome.receipt and not outcome.elsewhere:
                self._add_receipt(outcome)

    def _add_receipt(self, outcome: Outcome) -> None:
        receipt = outcome.receipt
        self.units += 1
        self.documents += receipt.documents
        self.chunks += receipt.chunks
        self.tokens += receipt.tokens
        self.rejected += receipt.rejected
        self.forgotten += receipt.forgotten
        self.bytes += sum(file.size for file in receipt.files)

    def mean(self, what: str, of: str) -> float | None:
        return self.numbers[what] / self.numbers[of] if self.numbers[of] else None


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of an encode job, for people and machines. Shares are between 0 and 1."""

    documents: int
    chunks: int
    tokens: int
    rejected: int
    held: int  # documents the bank had already
    duplicates: int  # documents given twice
    replaced: int  # documents the bank had with another text
    forgotten: int  # documents left out because the bank was told to forget them
    units: int
    failed_units: int
    seconds: float  # wall, from the first unit handed out to the last commit
    start_up_seconds: float
    tokens_per_second: float
    share_of_limit: float | None  # encoding's FLOP over the workers' measured matrix-product rate, while they worked
    padding: float | None  # share of the computed text positions
    bytes_per_chunk: float | None  # in the bank, all columns
    fidelity: float | None  # mean share of positions that greedy decoding gets right
    whole: float | None  # share of chunks whose latents alone get every position right
    carried: float | None  # mean share of positions that the latents decide; patches and raw ids do the rest
    patch_bytes: float | None  # mean
    recalled: int  # rows that encoders recalled, as a sample
    recalled_exactly: int
    refined: int  # chunks whose latents were refined; the figures from here on are of these
    refine_steps: float | None  # mean
    refine_encodes: float | None  # mean cost of refining a chunk, in encodings of it
    fidelity_before: float | None  # mean, of the encoder's latents
    patch_bytes_before: float | None  # mean, with the encoder's latents
    not_refined: int  # chunks that keep the encoder's latents because refining met NaN or infinity
    cost_per_billion_tokens: float | None

    def as_dict(self) -> dict:
        return asdict(self)


def summarise(
    tally: Tally,
    *,
    held: int,
    duplicates: int,
    replaced: int,
    forgotten: int = 0,
    seconds: float,
    start_up_seconds: float,
    price_per_hour: float | None = None,
) -> Summary:
    """`price_per_hour` is of one worker; `forgotten` counts what the plan left out."""
    workers = max(1, len(tally.workers))
    cost = None
    if price_per_hour is not None and tally.tokens:
        cost = price_per_hour * workers * seconds / 3600 / tally.tokens * 1e9
    return Summary(
        documents=tally.documents,
        chunks=tally.chunks,
        tokens=tally.tokens,
        rejected=tally.rejected,
        held=held,
        duplicates=duplicates,
        replaced=replaced,
        forgotten=forgotten + tally.forgotten,
        units=tally.units,
        failed_units=len(tally.failures),
        seconds=seconds,
        start_up_seconds=start_up_seconds,
        tokens_per_second=tally.tokens / seconds if seconds else 0.0,
        share_of_limit=tally.mean("encode_flop", "limit_flop"),
        padding=tally.mean("padding", "positions"),
        bytes_per_chunk=tally.bytes / tally.chunks if tally.chunks else None,
        fidelity=tally.mean("fidelity", "verified"),
        whole=tally.mean("whole", "verified"),
        carried=tally.mean("carried", "verified"),
        patch_bytes=tally.mean("patch_bytes", "verified"),
        recalled=tally.numbers["recalled"],
        recalled_exactly=tally.numbers["recalled_exactly"],
        refined=int(tally.numbers["refined"]),
        refine_steps=tally.mean("refine_steps", "refined"),
        refine_encodes=tally.mean("refine_seconds", "refined_encode_seconds"),
        fidelity_before=tally.mean("fidelity_before", "refined"),
        patch_bytes_before=tally.mean("patch_bytes_before", "refined"),
        not_refined=int(tally.numbers["not_refined"]),
        cost_per_billion_tokens=cost,
    )
