"""`nextmem evaluate`: what a codec's latents give back of passages it has not seen, set by set."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from jobs.output import emit, share, table
from model.backbone import default_device
from model.codec import Codec
from model.codec_io import load_codec
from model.config import VerifyConfig
from model.default_codec import UNTRAINED, default_codec_folder, untrained_codec_folder
from model.embedded import EMBEDDED
from model.precision import default_precision
from model.reconstruction import Reconstruction, reconstruct
from model.refusal import Refusal
from pipeline.corpus.passages import Found, passage_files, read_passages


def run_evaluate(
    codec: str | None,
    data: Sequence[str],
    *,
    backbone: str | None,
    text_column: str,
    passages: int,
    min_tokens: int,
    out: str | None,
    as_json: bool,
) -> None:
    """One line of figures a file. ValueError for a file without passages that are long enough."""
    files = passage_files(data)
    if codec in (None, UNTRAINED):
        codec = (untrained_codec_folder if codec else default_codec_folder)(backbone or EMBEDDED)
    verifying = VerifyConfig.of(default_precision(default_device()))  # as `nextmem encode` would
    loaded = load_codec(codec, backbone_name=backbone, verifying=verifying, keep_plain=True)
    results = {}
    for file in files:
        chunks = first_chunks(loaded, file, text_column, passages, min_tokens)
        print(f"{file.name}: {len(chunks)} passages", file=sys.stderr)
        results[file.stem] = reconstruct(loaded, chunks)
        _print(file.stem, results[file.stem], as_json=as_json)
    if out is not None:
        record = {"codec": loaded.identity, "backbone": loaded.backbone.name, "sets": _plain(results)}
        Path(out).write_text(json.dumps(record, indent=2) + "\n")


def first_chunks(codec: Codec, file: Path, text_column: str, count: int, min_tokens: int) -> list[np.ndarray]:
    """The first chunk of each of the first `count` different passages that have `min_tokens`. Token ids."""
    found = Found()
    texts = dict.fromkeys(read_passages([file], text_column, found))
    chunks = list(islice(_long_enough(codec, texts, min_tokens), count))
    if found.unreadable:
        raise Refusal(found.unreadable[0])
    if not chunks:
        raise Refusal(f"{file} has no passage of {min_tokens} tokens or more in its column {text_column!r}")
    return chunks


def _long_enough(codec: Codec, texts: dict[str, None], min_tokens: int) -> Iterator[np.ndarray]:
    for text in texts:
        ids = next(codec.tokenizer.chunks(text, codec.config.chunk_tokens)).token_ids
        if len(ids) >= min_tokens:
            yield ids


def _plain(results: dict[str, Reconstruction]) -> dict:
    return {name: dataclasses.asdict(result) for name, result in results.items()}


def _print(name: str, found: Reconstruction, *, as_json: bool) -> None:
    if as_json:
        emit({"event": "evaluated", "set": name} | dataclasses.asdict(found))
        return
    table(
        [
            ("set", f"{name}: {found.chunks} chunks, {found.tokens:,} tokens"),
            ("F1", f"{found.nf4.f1:.4f} (dense {found.dense.f1:.4f})"),
            ("whole", f"{share(found.nf4.whole)} of chunks come back whole (dense {share(found.dense.whole)})"),
            ("names", f"{share(found.nf4.names_and_numbers)} of capitalised words and numbers come back"),
            ("fidelity", f"{share(found.fidelity)} of positions right, {share(found.plain)} without latents"),
            ("patch", f"{found.patch_bytes:.0f} bytes (median), {share(found.forced)} of positions forced"),
        ]
    )
    print()
