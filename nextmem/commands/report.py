"""What `nextmem encode` prints at the end, and instead of encoding in a dry run."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.output import duration, emit, share, size, table

if TYPE_CHECKING:  # they import Ray, which reads its variables at that moment: the job sets them first
    from jobs.encode.dry_run import Estimate
    from jobs.encode.encode import EncodeResult
    from pipeline.encode.summary import Summary

NAMED = 10  # failures that are printed


def print_encoded(result: EncodeResult, *, as_json: bool) -> None:
    """The summary on stdout; what was left out on stderr."""
    if as_json:
        failures = [{"unit": unit, "reason": reason} for unit, reason in result.failures]
        left_out = {"passed_over": result.passed_over, "failures": failures}
        emit({"event": "summary", "bank": result.bank, **result.summary.as_dict(), **left_out})
        return
    table([("bank", result.bank), *_rows(result.summary), *_passed_over(result.passed_over)])
    if result.summary.rejected:
        print(f"{result.summary.rejected} rejected: see {result.bank}/_rejected/", file=sys.stderr)
    if lost := result.summary.recalled - result.summary.recalled_exactly:
        print(f"{lost} rows do not recall exactly: `nextmem verify {result.bank}` names all such", file=sys.stderr)
    for unit, reason in result.failures[:NAMED]:
        print(f"unit {unit} was not done: {reason}", file=sys.stderr)
    if result.failures:
        more = f"{len(result.failures) - NAMED} more units were not done; " if len(result.failures) > NAMED else ""
        print(f"{more}nothing of such units is lost: the same command tries them again", file=sys.stderr)


def print_estimate(estimate: Estimate, *, as_json: bool) -> None:
    """What encoding would take, on stdout."""
    if as_json:
        emit({"event": "plan", **asdict(estimate)})
    else:
        table([("bank", estimate.bank), *_estimate_rows(estimate)])


def _estimate_rows(e: Estimate) -> list[tuple[str, str]]:
    rows = [
        ("units", f"{e.units:,} to encode"),
        ("documents", f"{e.documents:,} to encode, {e.held:,} held already, {e.replaced:,} to be replaced"),
        ("left out", f"{e.rejected:,} rejected, {e.duplicates:,} duplicates{_forgotten(e.forgotten)}"),
        *_passed_over(e.passed_over),
    ]
    if not e.chunks:
        return rows
    seen = f"{e.sampled_chunks:,} in {e.sampled_units} units"
    rows += [
        ("chunks", f"about {e.chunks:,} of {e.tokens:,} tokens, estimated from {seen}"),
        ("size", f"about {size(e.bytes)}, {e.bytes / e.chunks:,.0f} bytes a chunk"),
    ]
    if e.chunks_per_second is None or e.device_hours is None or e.hours is None:
        return [*rows, ("rate", f"unknown: {e.rate_from}")]
    hours = f"{e.device_hours:,.1f}" if e.device_hours >= 100 else f"{e.device_hours:.3g}"
    rows += [
        ("rate", f"{e.chunks_per_second:,.1f} chunks/s a worker, {e.rate_from}"),
        ("time", f"{hours} device hours; {duration(3600 * e.hours)} on {e.workers} workers"),
    ]
    if e.cost is not None and e.price_per_hour is not None:
        rows.append(("cost", f"{e.cost:,.2f} at {e.price_per_hour:,.2f} an hour and worker"))
    return rows


def _forgotten(documents: int) -> str:
    """Documents of the corpus that stay out because of `nextmem forget`, where there are any."""
    return f", {documents:,} forgotten" if documents else ""


def _recall(s: Summary) -> str:
    """Nothing is called exact that nobody recalled."""
    if not s.recalled:
        return "every chunk has its patch; none was recalled to see: `nextmem verify` does"
    return f"exact in {s.recalled_exactly:,} of {s.recalled:,} rows that were recalled to see"


def _passed_over(found: dict[str, int]) -> list[tuple[str, str]]:
    """What lies in the corpus' folders and is of no format that is read."""
    endings = {ending: count for ending, count in found.items() if ending != "folder"}
    files, folders = sum(endings.values()), found.get("folder", 0)
    listed = ", ".join(f"{ending} {count:,}" for ending, count in endings.items())
    said = [f"{files:,} file{'s' * (files != 1)} of other formats passed over: {listed}"] if files else []
    said += [f"{folders:,} folder{'s' * (folders != 1)} passed over (hidden, _*, or memory banks)"] if folders else []
    return [("other files", "; ".join(said))] if said else []


def _rows(s: Summary) -> list[tuple[str, str]]:
    rows = [
        ("documents", f"{s.documents:,} encoded, {s.held:,} held already, {s.replaced:,} replaced"),
        (
            "left out",
            f"{s.rejected:,} rejected, {s.duplicates:,} duplicates, {s.failed_units:,} units failed"
            f"{_forgotten(s.forgotten)}",
        ),
        ("chunks", f"{s.chunks:,} of {s.tokens:,} tokens"),
        (
            "time",
            f"{s.seconds:.1f} s after {s.start_up_seconds:.1f} s of start-up; {s.tokens_per_second:,.0f} tokens/s",
        ),
    ]
    if s.chunks:
        rows += [
            ("compute", f"{share(s.share_of_limit)} of the measured matrix-product rate; padding {share(s.padding)}"),
            ("size", f"{s.bytes_per_chunk:,.0f} bytes a chunk: a bank saves context and prefill, not disk"),
        ]
    if s.fidelity is not None:
        rows += [
            ("latents", f"{share(s.fidelity)} of positions right, {share(s.whole)} of chunks at every position"),
            ("recall", _recall(s)),
            ("carried", f"{share(s.carried)} by latents, the rest by patches and raw ids "
                        f"({s.patch_bytes:.0f} bytes a chunk)"),
        ]  # fmt: skip
        rows += _refining(s)
    elif s.chunks:
        rows.append(("recall", "not verified: these chunks have no patch, and recall is exact only by luck"))
    if s.cost_per_billion_tokens is not None:
        rows.append(("cost", f"{s.cost_per_billion_tokens:,.2f} per billion tokens"))
    return rows


def _refining(s: Summary) -> list[tuple[str, str]]:
    rows = []
    if s.refined:
        cost = f"{s.refine_steps:.1f} steps each, {s.refine_encodes:.0f} times what encoding them took"
        before = f"before: {share(s.fidelity_before)} of positions right, {s.patch_bytes_before:.0f} bytes of patch"
        rows.append(("refined", f"{s.refined:,} chunks in {cost}; {before}"))
    if s.not_refined:
        why = "refining met numbers that are not finite, and they keep the encoder's latents"
        rows.append(("not refined", f"{s.not_refined:,} chunks: {why}"))
    return rows
