"""A bank's live rows as plain Parquet, for people and tools that know no Delta, with what they need to read them.

`embedding` becomes a fixed-size list, so that NumPy, FAISS and vector stores see a matrix. `codes` and `scales` stay
binary: as lists of uint8 they would be four bytes a value, for Parquet knows no smaller integer.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model.refusal import Taken
from pipeline.bank.bank import Bank
from pipeline.bank.enclosing import refuse_inside_a_table
from pipeline.bank.identity import CodecIdentity
from pipeline.bank.unit_file import parquet_files
from pipeline.schema import EMBEDDING
from pipeline.storage import storage
from pipeline.storage.folder import Folder

PROPERTY = b"nextmem.identity"
DATA = "data"  # nothing but the rows: Polars opens no folder that holds a file of another kind
ABOUT = "__about__"  # pyarrow, pandas and DuckDB pass over names with one underscore, `datasets` over those with two


@dataclass(frozen=True, slots=True)
class Exported:
    """What `export` wrote."""

    files: tuple[str, ...]
    rows: int
    bytes: int


def export(bank: Bank, out_dir: str | os.PathLike) -> Exported:
    """Write OUT/data/part-*.parquet (each at most 128 MB), and OUT/__about__/ with bank.json and README.md; all of it
    or nothing.

    Streams: one file in memory at a time. Raises FileExistsError for a file, for a folder that holds anything, and for
    one inside a bank. On an object store __about__/bank.json comes last: where it is, the rest is.
    """
    uri = storage.absolute(os.fspath(out_dir))
    refuse_inside_a_table(uri, "an export")
    if storage.exists(uri) and not storage.stat(uri).is_folder:
        raise Taken(f"{uri} is a file, and an export is a folder: name another one")
    return _export_remote(bank, Folder(uri)) if storage.is_remote(uri) else _export_local(bank, Path(uri))


def _export_local(bank: Bank, out: Path) -> Exported:
    if out.exists() and any(out.iterdir()):
        raise Taken(f"{out} is not empty: export into a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        exported = _write(bank, Folder(draft))
        draft.chmod(0o755)
        os.replace(draft, out)  # onto an empty folder or none
        return exported
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _export_remote(bank: Bank, out: Folder) -> Exported:
    if out.names(recursive=True):
        raise Taken(f"{out.uri} is not empty: export into a new folder")
    try:
        return _write(bank, out)
    except BaseException:
        for name in out.names(recursive=True):
            out.remove(name)
        raise


def export_schema(bank: Bank) -> pa.Schema:
    """The bank's columns, the embedding of fixed size, and the codec's identity as schema metadata."""
    width = bank.identity.embedding_width
    fixed = pa.field(EMBEDDING, pa.list_(pa.float32(), width), nullable=False)
    fields = [fixed if field.name == EMBEDDING else field for field in bank.schema]
    return pa.schema(fields, metadata={PROPERTY: json.dumps(asdict(bank.identity)).encode()})


def _write(bank: Bank, folder: Folder) -> Exported:
    schema = export_schema(bank)
    files, size = [], 0
    for number, content in enumerate(parquet_files(schema, _fixed(bank, schema))):
        files.append(f"{DATA}/part-{number:05d}.parquet")
        folder.put(files[-1], content)
        size += content.size
    if not files:
        files = [f"{DATA}/part-00000.parquet"]  # columns without rows open everywhere; no file at all is an error
        pq.write_table(schema.empty_table(), empty := pa.BufferOutputStream())
        folder.put(files[0], empty.getvalue())
    about = {"bank": bank.folder.uri, "version": bank.version, "rows": bank.count(), "files": files}
    about |= {"codec": asdict(bank.identity), "columns": {field.name: str(field.type) for field in schema}}
    folder.put(f"{ABOUT}/README.md", _readme(bank.identity).encode())
    folder.put(f"{ABOUT}/bank.json", (json.dumps(about, indent=2) + "\n").encode())
    return Exported(tuple(files), bank.count(), size)


def _fixed(bank: Bank, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    column = bank.schema.get_field_index(EMBEDDING)
    for batch in bank.rows():
        arrays = batch.columns
        arrays[column] = pa.FixedSizeListArray.from_arrays(arrays[column].flatten(), bank.identity.embedding_width)
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _readme(codec: CodecIdentity) -> str:
    return f"""# Exported memory bank

One row is one chunk of at most 128 tokens. The folder `data/` beside this one holds nothing but the rows, so anything
that reads Parquet opens it as a folder, or as `data/*.parquet`:

    pandas.read_parquet("data")        polars.read_parquet("data")        pyarrow.dataset.dataset("data")
    datasets.load_dataset("parquet", data_dir="data", split="train")      duckdb.sql("from 'data/*.parquet'")

All but Polars open the folder around it as well. `bank.json` names the codec and every column's type.

| column | what it is |
|---|---|
| chunk_id | hash of document id, position and token ids |
| doc_id, position | the document, and the chunk's place in it from 0 |
| char_start, char_end | where the chunk stands in the document's text, in code points, half open |
| num_tokens, source | tokens in the chunk; the input file |
| unit, encoded_at | the work unit that wrote the row, and when |
| codes, scales | the latents, {codec.num_latents} vectors of width {codec.hidden_width}, as `{codec.quantiser}` |
| embedding | {codec.embedding_width} float32 of length 1; a dot product is the cosine |
| fidelity | share of tokens that greedy decoding gets right; null if not verified |
| patch | the tokens that decoding must be told to be exact; null if not verified |
| refine_steps | optimizer steps that made the latents better than the encoder's; null where none were asked for |
| text_hash, doc_hash | BLAKE2b, 16 bytes in hex, of the chunk's and of the document's UTF-8 text |
| text | the chunk's text, where it was kept |
| stems | its words, where they were kept: 5 bytes a stem, little-endian CRC-32 and count |

## Reading the latents

`codes` holds one 4-bit NormalFloat code a value, two a byte, in row-major order of
[{codec.num_latents}, {codec.hidden_width}]; `scales` one little-endian float16 a block of 64 values:

    codes  = np.frombuffer(row["codes"], np.uint8)
    scales = np.frombuffer(row["scales"], np.float16)

A value is its code's NF4 level times its block's scale, times its channel's deviation, plus its channel's mean. The
deviations and the means are the codec's (the bank's `_codec/` folder; hash {codec.codec_hash}), and so is the order of
the two codes in a byte: NextMem's `nf4.py` does it. Latents decode to text: treat these files as you treat the corpus.
"""
