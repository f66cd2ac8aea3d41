"""`nextmem info`: what a bank holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import emit, share, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    from pipeline.bank.info import BankInfo, Quality


@click.command()
@click.argument("bank")
@as_json_option
def info(bank, as_json):
    """Rows, documents, codec, sizes, fidelity and versions of BANK."""
    import nextmem

    with nextmem.open(bank) as opened:
        found = opened.info()
    if as_json:
        emit(asdict(found) | {"bytes_per_chunk": found.bytes_per_chunk})
    else:
        table(_rows(found))


def _rows(found: BankInfo) -> list[tuple[str, str]]:
    codec = found.identity
    return [
        ("bank", found.uri),
        ("documents", f"{found.documents:,}, {found.rejected:,} rejected{_forgotten(found.forgotten)}"),
        ("chunks", f"{found.chunks:,} of {found.tokens:,} tokens, in {found.units:,} units"),
        ("codec", f"{codec.codec_hash} on {codec.backbone}"),
        ("latents", f"{codec.num_latents} of {codec.hidden_width} values a chunk, {codec.quantiser}"),
        ("embedding", f"{codec.embedding_width} values, {codec.pooling}"),
        ("verified", f"{found.verified:,} chunks in {codec.verify_precision}, margin {codec.verify_margin}"),
        ("fidelity", f"{share(found.fidelity)} of positions; {found.unpatched:,} chunks need no patch"),
        *_refined(found),
        ("size", f"{found.bytes:,} bytes in {found.files:,} files, {found.bytes_per_chunk:,.0f} a chunk"),
        ("a chunk", _columns(found)),
        ("own columns", ", ".join(f"{name} {kind}" for name, kind in found.metadata_columns.items()) or "none"),
        ("version", f"{found.version}, changed {found.changed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("format", f"{codec.format_version}, made {found.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]


def _forgotten(documents: int) -> str:
    return f", {documents:,} forgotten" if documents else ""


def _refined(found: BankInfo) -> list[tuple[str, str]]:
    """What refining gave, where there is something refined; beside it what was not, if there is any."""
    if found.refined is None:
        return []
    said = f"{found.refined.chunks:,} chunks in {found.refined.steps:.1f} steps each: {_quality(found.refined)}"
    others = f"; {found.unrefined.chunks:,} not: {_quality(found.unrefined)}" if found.unrefined else ""
    return [("refined", said + others)]


def _quality(found: Quality) -> str:
    return f"{share(found.fidelity)} of positions right, patches of {found.patch_bytes:.0f} bytes"


def _columns(found: BankInfo) -> str:
    """Bytes a chunk by column, the large ones by name."""
    sizes = {name: size / max(1, found.chunks) for name, size in found.column_bytes.items()}
    large = {name: size for name, size in sizes.items() if size >= 0.01 * found.bytes_per_chunk}
    rest = found.bytes_per_chunk - sum(large.values())
    return ", ".join([*(f"{name} {size:,.0f}" for name, size in large.items()), f"everything else {rest:,.0f}"])
