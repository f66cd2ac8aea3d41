"""`nextmem refine`: raise the rows of an existing bank, in this process."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from tqdm import tqdm

from jobs.output import emit, interval, share, table
from model.config import RefineConfig
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.refine_bank import BankRefiner, RefinedRows
from pipeline.bank.where import rows_where


def run_refine(uri: str, config: RefineConfig, *, where: Sequence[str], backbone: str | None, as_json: bool) -> bool:
    """Refine rows and print what it did. Returns whether every row could be refined.

    Raises BusyError beside a tend or another refine, ValueError for a condition that means nothing.
    """
    bank = open_bank(uri)
    wanted = rows_where(where, bank.schema)
    with Presence(bank.folder, "refine") as presence:
        presence.begin(state="refining")
        refuse_beside(bank.folder, "tend", "refine", but=presence.record.job)
        codec = load_bank_codec(bank, backbone=backbone)
        looks = {"disable": as_json, "file": sys.stderr, "mininterval": interval()}
        with tqdm(unit="chunk", desc="refining", **looks) as bar:
            refiner = BankRefiner(bank, codec, config, where=wanted, on_refined=bar.update)
            bar.total = refiner.count()
            presence.update(chunks=bar.total)
            sums = _added(refiner.refine(), presence)
    _print(bank.folder.uri, sums, as_json)
    return not (sums["inexact"] or sums["not_finite"])


def _added(refined: Iterable[RefinedRows], presence: Presence) -> Counter[str]:
    sums = Counter[str]()
    for each in refined:
        sums.update(asdict(each))
        presence.update(done_chunks=sums["rows"])
    return sums


def _print(uri: str, sums: Counter[str], as_json: bool) -> None:
    if as_json:
        emit({"event": "refined", "bank": uri, **{name: sums[name] for name in RefinedRows.__dataclass_fields__}})
        return
    table([("bank", uri), *_rows(sums)])


def _rows(sums: Counter[str]) -> list[tuple[str, str]]:
    rows = [("refined", "nothing: every row asked for is refined as far, or needs no patch")]
    if count := sums["rows"]:
        before, after = sums["patch_bytes_before"] / count, sums["patch_bytes"] / count
        rows = [
            ("refined", f"{count:,} chunks in {sums['steps'] / count:.1f} steps each"),
            (
                "fidelity",
                f"{share(sums['fidelity'] / count)} of positions, {share(sums['fidelity_before'] / count)} before",
            ),
            ("patch", f"{after:.0f} bytes a chunk, {before:.0f} before"),
        ]
    if sums["inexact"]:
        rows.append(("left", f"{sums['inexact']:,} chunks do not recall exactly: `nextmem verify` names them"))
    if sums["not_finite"]:
        rows.append(("not refined", f"{sums['not_finite']:,} chunks: refining met numbers that are not finite"))
    return rows
