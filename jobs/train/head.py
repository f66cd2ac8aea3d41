"""`nextmem train --system head`: teach an embedding head on the latents of a bank, and write the codec that has it.

RUN/config.json  RUN/teacher/  RUN/metrics.jsonl  RUN/codec/
The bank's rows are the passages: encoded once, by `nextmem encode --keep-text --no-verify`, which goes on where it was
killed. The teacher's vectors are kept in the run. The head itself is minutes, and begins anew. Latents stay in NF4 and
become floats a batch at a time: 4.6 KB a passage at D = 576, where floats of all would take 35.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from jobs.settings import replaced
from jobs.train.further_texts import LICENCE, SHORTEST, TITLE, Passage, further_texts, is_file_of_texts
from jobs.train.pairs import queries_of
from jobs.train.run_folder import Metrics, replace_file
from jobs.train.taught import taught
from model.codec import Codec
from model.codec_head import add_head
from model.codec_io import load_codec
from model.refusal import Refusal
from model.training.teacher import Teacher
from model.training.teaching import ALONE, HeadConfig, Lesson, Looked, teach
from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.identity import verify_config
from pipeline.bank.opened import open_bank
from pipeline.schema import CODES, NUM_TOKENS, SCALES, TEXT

TEACHER = "teacher"  # the folder of its vectors


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """What a person asks for."""

    run: str
    data: tuple[str, ...]  # banks of one codec, and perhaps files of texts without latents
    settings: Mapping[str, object] = field(default_factory=dict)  # of HeadConfig, by name


def run_head(
    request: HeadRequest,
    *,
    on_progress: Callable[[dict], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Path:
    """Teach a head; the codec's folder. A run whose codec is there already is left as it is.

    Raises Refusal for banks without texts or of several codecs, and where the teacher's package is not installed.
    """
    run, (config,) = Path(request.run).absolute(), replaced(request.settings, HeadConfig())
    codec_folder = run / "codec"
    if codec_folder.exists():
        say(f"{run} is taught to its end; its codec is {codec_folder}. Name a new folder to teach another.")
        return codec_folder
    banks = _banks([path for path in request.data if not is_file_of_texts(path)])
    rows = _passages(banks).slice(0, config.passages)
    own = local_codec(banks[0].codec_path)
    codec = load_codec(own, verifying=verify_config(banks[0].identity), device="cpu")
    run.mkdir(parents=True, exist_ok=True)
    known, limit = set(rows[TEXT].to_pylist()), codec.config.chunk_tokens
    files = [path for path in request.data if is_file_of_texts(path)]
    further = further_texts(files, codec.tokenizer, limit, without=known, most=config.further_texts)
    lesson, identity = _lesson(rows, further, codec, config.seed, run, say), codec.identity
    del codec  # the lesson keeps its token embeddings alone
    rows = rows.select([LICENCE])
    asked = {"system": "head", "data": list(request.data), "codec": identity, "head": config.as_dict()}
    replace_file(run / "config.json", json.dumps(asked, indent=2) + "\n")
    (run / "metrics.jsonl").unlink(missing_ok=True)
    metrics = Metrics(run / "metrics.jsonl", on_progress or (lambda row: None))
    try:
        head, looked = teach(lesson, config, observe=metrics.write)
    finally:
        metrics.close()
    add_head(own, head, codec_folder, latents_weight=config.latents_weight)
    (codec_folder / "HEAD.md").write_text(card(rows, further, lesson, config, looked, identity))
    return codec_folder


def _banks(paths: Sequence[str]) -> list[Bank]:
    if not paths:
        raise Refusal("name a bank of passages with --data: `nextmem encode PASSAGES BANK --keep-text --no-verify`")
    banks = [open_bank(path) for path in paths]
    for bank in banks[1:]:
        if bank.identity.codec_hash != banks[0].identity.codec_hash:
            raise Refusal(
                f"{bank.folder.uri} is of codec {bank.identity.codec_hash}, {banks[0].folder.uri} of "
                f"{banks[0].identity.codec_hash}: a head is taught on one codec's latents"
            )
    return banks


def _passages(banks: list[Bank]) -> pa.Table:
    """Rows that keep their text and are no mere ends of documents."""
    wanted = pc.field(TEXT).is_valid() & (pc.field(NUM_TOKENS) >= SHORTEST)
    rows = pa.concat_tables([_rows(bank, wanted) for bank in banks])
    if not rows.num_rows:
        raise Refusal(
            f"{', '.join(bank.folder.uri for bank in banks)}: no chunk of {SHORTEST} tokens keeps its text. Encode the "
            "passages with `nextmem encode PASSAGES BANK --keep-text --no-verify`."
        )
    return rows


def _rows(bank: Bank, wanted: pc.Expression) -> pa.Table:
    """Codes, scales, text, title and licence; null where the bank has no such column."""
    columns = [name for name in (CODES, SCALES, TEXT, TITLE, LICENCE) if name in bank.schema.names]
    schema = pa.schema([bank.schema.field(name) for name in columns])
    found = pa.Table.from_batches(bank.rows(columns, wanted), schema)
    nothing = pa.nulls(found.num_rows, pa.string())
    own = {name: found[name].cast(pa.string()) if name in columns else nothing for name in (TITLE, LICENCE)}
    return pa.table({CODES: found[CODES], SCALES: found[SCALES], TEXT: found[TEXT], **own})


def _lesson(
    rows: pa.Table, further: Sequence[Passage], codec: Codec, seed: int, run: Path, say: Callable[[str], object]
) -> Lesson:
    texts = rows[TEXT].to_pylist()
    named = [*zip(texts, rows[TITLE].to_pylist(), strict=True), *((each.text, each.title) for each in further)]
    queries = [
        queries_of(text, title, np.random.default_rng([seed, zlib.crc32(text.encode())]))  # whatever rows are beside it
        for text, title in named
    ]
    asked = [query for of_one in queries for query in of_one]
    passages = np.array([*range(len(texts)), *[ALONE] * len(further)])
    vectors = torch.from_numpy(taught([*texts, *asked], run / TEACHER, lambda texts: Teacher().embed(texts), say))
    return Lesson(
        latents=StoredLatents(rows, codec),
        passages_PE=vectors[: len(texts)],
        queries=[np.asarray(codec.tokenizer.encode(query), np.int64) for query in asked],
        queries_QE=vectors[len(texts) :],
        passage_of_Q=np.repeat(passages, [len(of_one) for of_one in queries]),
        embed=codec.backbone.embed,
    )


class StoredLatents:
    """The latents of a bank's rows, as the quantiser holds them: standardised. Called with rows' numbers: floats."""

    def __init__(self, rows: pa.Table | pa.RecordBatch, codec: Codec):
        self._quantiser = codec.quantiser
        self._codes_NC, self._scales_NG = self._quantiser.packed(rows[CODES].to_pylist(), rows[SCALES].to_pylist())

    def __call__(self, chosen: np.ndarray) -> torch.Tensor:
        """float32 [B, K, D]."""
        return self._quantiser.values(self._codes_NC[chosen], self._scales_NG[chosen])


def standardised(rows: pa.Table | pa.RecordBatch, codec: Codec) -> torch.Tensor:
    """float32 [N, K, D] of all these rows' latents, standardised."""
    return StoredLatents(rows, codec)(np.arange(rows.num_rows))


def card(
    rows: pa.Table, further: Sequence[Passage], lesson: Lesson, config: HeadConfig, looked: Looked, latents_of: str
) -> str:
    """What the head was taught from, and how it does on passages that it has not seen."""
    with_latents, alone = Counter(rows[LICENCE].to_pylist()), Counter(each.licence for each in further)
    told = "\n".join(
        f"| {name or 'not said'} | {with_latents[name]:,} | {alone[name]:,} |"
        for name, _ in (with_latents + alone).most_common()
    )
    settings = ", ".join(f"{name}={value}" for name, value in config.as_dict().items())
    return f"""# The embedding head

Taught on {rows.num_rows:,} passages' latents of the codec `{latents_of}`, by {len(lesson.queries):,} queries made of
these passages and of {len(further):,} further ones: their titles, sentences, second halves, and words of a sentence.
Both sides were drawn towards the vectors of all-MiniLM-L6-v2 (Apache-2.0), which is needed for nothing else.

| licence | passages | further texts |
|---|---|---|
{told}

Of {looked.passages:,} passages that it was not taught on, {looked.found_first:.1%} are found first by a query of
their own among them; by the teacher {looked.teacher_found_first:.1%}. The cosine to the teacher's vector is
{looked.passage_cosine:.3f} for passages and {looked.query_cosine:.3f} for queries.

`nextmem train RUN --system head --data BANK --data FILE`, with {settings}
"""
