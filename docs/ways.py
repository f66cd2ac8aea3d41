"""Draw the two ways through the code: a document to a memory row, and a chunk id to its text.

    python docs/ways.py        writes docs/ways.svg

Each box is a file and the function that does the step; a test draws it again and holds it against the code.
"""

from __future__ import annotations

import html
from pathlib import Path

OUT = Path(__file__).with_name("ways.svg")

# (lane, [(file, function, what it does)]): a lane is a process; steps run from top to bottom, lanes from left to right.
TO_A_ROW = (
    ("driver: what is to be done", (
        ("jobs/encode/encode.py", "run_encode", "the job, from its corpus to its summary"),
        ("pipeline/corpus/corpus.py", "Corpus", "files, folders, globs: which files there are"),
        ("pipeline/plan/plan.py", "plan_corpus", "their documents, packed into work units"),
        ("pipeline/encode/encode.py", "encode", "units through readers and encoders (Ray Data)"),
    )),
    ("reader: a unit's documents", (
        ("pipeline/encode/read_work.py", "ReadWork", "one unit: read, cut, hand on"),
        ("pipeline/corpus/readers.py", "read_span", "a file's part to documents or rejections"),
        ("pipeline/encode/chunk.py", "chunk_documents", "documents to chunks of 128 token ids"),
    )),
    ("encoder: a unit's rows", (
        ("pipeline/encode/encode_work.py", "EncodeWork", "one unit: encode, write its file"),
        ("pipeline/encode/memorise.py", "Memoriser", "chunks in batches of like length"),
        ("model/codec.py", "Codec", "a batch to memories: the steps below"),
        ("model/latents.py", "encode_latents", "token ids to 15 latents a chunk"),
        ("model/nf4.py", "quantise", "latents to codes and scales"),
        ("model/patch.py", "make_patch", "what greedy decoding would get wrong"),
        ("pipeline/bank/unit_file.py", "UnitWriter", "rows to a Parquet file that no one sees yet"),
    )),
    ("driver: what was done", (
        ("pipeline/encode/committer.py", "commit_as_they_come", "finished units, every few seconds"),
        ("pipeline/bank/commit.py", "commit", "their files, seen all at once or not at all"),
    )),
)  # fmt: skip
TO_ITS_TEXT = (
    ("find the row", (
        ("nextmem/bank.py", "Bank", "Bank.recall(chunk_id=...)"),
        ("pipeline/bank/lookup.py", "by_chunk_id", "the row, by the id column alone"),
    )),
    ("decode it", (
        ("pipeline/bank/recall.py", "recall", "rows in batches of like length"),
        ("model/codec.py", "Codec", "a batch to token ids: the steps below"),
        ("model/nf4.py", "dequantise", "codes and scales to latents"),
        ("model/latents.py", "draft_tokens", "greedy decoding; the patch forces its tokens"),
        ("model/mend.py", "Mender", "near ties the other way, where a draft is wrong"),
    )),
    ("trust it", (
        ("model/tokens.py", "text_hash", "the text's hash against the row's"),
        ("pipeline/bank/recall.py", "InexactRecall", "or an error that names the row"),
    )),
)  # fmt: skip

LANE, BOX, TALL, STEP, MARGIN, HEAD = 304, 284, 62, 84, 16, 34
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1b1f24 } .t { font-weight: 600; font-size: 15px }
.l { font-weight: 600; fill: #57606a } .n { font-weight: 600 } .w { font-size: 11px }
.f { font: 11px ui-monospace, monospace; fill: #0550ae }
.b { fill: #f6f8fa; stroke: #d0d7de } .a { stroke: #57606a; fill: none; marker-end: url(#head) } .h { fill: #57606a }
svg { background: #ffffff }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 } text { fill: #e6edf3 } .l { fill: #9198a1 } .f { fill: #79c0ff }
  .b { fill: #161b22; stroke: #30363d } .a { stroke: #9198a1 } .h { fill: #9198a1 } }
"""


def draw() -> str:
    """The whole picture as SVG."""
    parts, top = [], MARGIN
    for title, lanes in (("A document to a memory row", TO_A_ROW), ("A chunk id to its text", TO_ITS_TEXT)):
        drawn, top = _way(title, lanes, top)
        parts += drawn
    width = 2 * MARGIN + LANE * len(TO_A_ROW) - (LANE - BOX)
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    head += '<path class="h" d="M0 0L8 4L0 8z"/></marker>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}">\n'
        f"<style>{STYLE}</style>\n<defs>{head}</defs>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def steps() -> list[tuple[str, str]]:
    """(file, function) of every box."""
    return [(file, name) for way in (TO_A_ROW, TO_ITS_TEXT) for _, boxes in way for file, name, _ in boxes]


def _way(title: str, lanes: tuple, top: int) -> tuple[list[str], int]:
    """One way's drawing, and where the next one begins."""
    parts = [f'<text class="t" x="{MARGIN}" y="{top + 16}">{html.escape(title)}</text>']
    first = top + 2 * HEAD
    for column, (lane, boxes) in enumerate(lanes):
        left = MARGIN + column * LANE
        parts.append(f'<text class="l" x="{left}" y="{first - 12}">{html.escape(lane)}</text>')
        for row, box in enumerate(boxes):
            parts += _box(left, first + row * STEP, *box, follows=row > 0)
        if column:
            before, last = left - LANE + BOX, first + STEP * (len(lanes[column - 1][1]) - 1) + TALL // 2
            gutter = (before + left) // 2
            parts.append(f'<path class="a" d="M{before} {last}H{gutter}V{first + TALL // 2}H{left - 1}"/>')
    return parts, first + STEP * max(len(boxes) for _, boxes in lanes) + HEAD // 2


def _box(left: int, top: int, file: str, name: str, what: str, *, follows: bool) -> list[str]:
    middle = left + BOX // 2
    arrow = [f'<path class="a" d="M{middle} {top - STEP + TALL}V{top - 1}"/>'] if follows else []
    return [
        *arrow,
        f'<rect class="b" x="{left}" y="{top}" width="{BOX}" height="{TALL}" rx="6"/>',
        f'<text class="f" x="{left + 10}" y="{top + 18}">{html.escape(file)}</text>',
        f'<text class="n" x="{left + 10}" y="{top + 35}">{html.escape(name)}</text>',
        f'<text class="w" x="{left + 10}" y="{top + 52}">{html.escape(what)}</text>',
    ]


if __name__ == "__main__":
    OUT.write_text(draw())
