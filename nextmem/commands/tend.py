"""`nextmem tend`: join small files, remove what nobody needs, checkpoint the log."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import chunks, emit, size, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    from jobs.settings import TendSettings
    from pipeline.bank.tend import Tended


@click.command()
@click.argument("bank")
@click.option("--now", is_flag=True, help="Older versions go too, and every byte of what was forgotten.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="orphan_hours, version_hours.")
@as_json_option
def tend(bank, now, dry_run, pairs, as_json):
    """Join BANK's small files, remove what dead jobs and old versions left, checkpoint its log.

    Refuses while another job writes to the bank. The rows stay as they are. After --now nobody can open an older
    version, nor undo a forget.
    """
    import nextmem
    from jobs.settings import TendSettings, apply_settings

    (settings,) = apply_settings(pairs, TendSettings())
    with nextmem.open(bank) as opened:
        tended = opened.tend(now=now, dry_run=dry_run, **asdict(settings))
    if as_json:
        emit(asdict(tended))
    else:
        table([("bank", tended.bank), *_rows(tended, settings)])


def _rows(t: Tended, settings: TendSettings) -> list[tuple[str, str]]:
    will = "would be " if t.dry_run else ""
    into = f"{'about ' if t.dry_run else ''}{t.into:,}"
    orphans = f"{len(t.orphans):,} files of {size(t.orphan_bytes)}"
    superseded = f"{len(t.superseded):,} files of {size(t.superseded_bytes)}"
    orphan_hours, version_hours = (0, 0) if t.now else (settings.orphan_hours, settings.version_hours)
    encoded = [("edits", f"{chunks(t.encoded)} that an edit has patched {will}encoded")] if t.encoded else []
    return [
        *encoded,
        ("files", f"{t.joined:,} small files {will}joined into {into}" if t.joined else "nothing to join"),
        ("orphans", f"{orphans} {will}removed: never committed, {orphan_hours} h old or more"),
        ("superseded", f"{superseded} {will}removed: out of the table for {version_hours} h or more"),
        ("plans", f"{len(t.plans):,} of corpora as they were {will}removed: {version_hours} h old or more"),
        ("log", f"{will}checkpointed, {t.log_files:,} {'older' if t.now else 'expired'} files {will}removed"),
        ("jobs", f"{t.forgotten:,} records of old jobs {will}forgotten"),
        *([("rejected", f"{t.rejected:,} forgotten documents {will}taken off the lists")] if t.now else []),
    ]
