"""What an export says of itself: how it is opened, what each column is, and how latents are read."""

from __future__ import annotations

from pipeline.bank.identity import verify_config
from pipeline.export.rows import Rows
from pipeline.schema import CODES, FAISS_ID, LATENTS

COLUMNS = """\
chunk_id: hash of document id, position and token ids
doc_id, position: the document, and the chunk's place in it from 0
char_start, char_end: where the chunk stands in the document's text, in code points, half open
num_tokens, source: tokens in the chunk; the input file
unit, encoded_at: the work unit that wrote the row, and when
codes, scales: the latents, {codec.num_latents} vectors of width {codec.hidden_width}, as `{codec.quantiser}`
latents: the latents as float32, {codec.num_latents} vectors of width {codec.hidden_width} one after another
embedding: {codec.embedding_width} float32 of length 1; a dot product is the cosine
fidelity: share of tokens that greedy decoding gets right; null if not verified
patch: the tokens that decoding must be told to be exact; null if not verified
refine_steps: optimizer steps that made the latents better than the encoder's; null where none were asked for
text_hash, doc_hash: BLAKE2b, 16 bytes in hex, of the chunk's and of the document's UTF-8 text
text: the chunk's text, {text}
stems: its words, where they were kept: 5 bytes a stem, little-endian CRC-32 and count
edited, edited_from: how the text was changed last, null where it never was; doc_hash before the first change
faiss_id: the row's id in the index"""
CODES_READ = """
`codes` holds one {rate.bits}-bit code a value, in row-major order of
[{codec.num_latents}, {codec.hidden_width}]; `scales` one little-endian float16 a block of 64 values:

    codes  = np.frombuffer(row["codes"], np.uint8)
    scales = np.frombuffer(row["scales"], np.float16)

A value is its code's level times its block's scale, times its channel's deviation, plus its channel's mean. The
deviations and the means are the codec's (the bank's `_codec/` folder; hash {codec.codec_hash}). Levels, and the order
of codes in bytes, are 4-bit NormalFloat's where a code has 4 bits: NextMem's `nf4.py`, and `few_bits.py` for fewer."""
LATENTS_READ = """
`latents` is what a decoder reads in place of the chunk's tokens, dequantised:

    latents = np.asarray(row["latents"], np.float32).reshape({codec.num_latents}, {codec.hidden_width})"""


def readme(rows: Rows, opening: str) -> str:
    """Markdown. `opening` says how the rows are opened."""
    codec, names = rows.bank.identity, {*rows.schema.names, FAISS_ID}
    rate = verify_config(codec).rate
    text = "recalled and compared with its hash" if "text" in rows.parts else "where it was kept"
    described = COLUMNS.format(codec=codec, text=text).splitlines()
    table = [f"| {line.replace(': ', ' | ', 1)} |" for line in described if names & set(_named(line))]
    reading = [CODES_READ] * (CODES in names) + [LATENTS_READ] * (LATENTS in names)
    lines = ["# Exported memory bank", "", "One row is one chunk of a document.", opening, ""]
    lines += ["`__about__/bank.json` names the codec and every column's type.", ""]
    lines += ["| column | what it is |", "|---|---|", *table, ""]
    if reading:
        lines += ["## Reading the latents", *(part.format(codec=codec, rate=rate) for part in reading), ""]
    return "\n".join([*lines, "Latents decode to text: treat these files as you treat the corpus.", ""])


def _named(line: str) -> list[str]:
    return line.partition(":")[0].split(", ")
