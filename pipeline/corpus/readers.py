"""A span of any input file becomes documents and rejections.

Planning reads whole files and a work unit reads its spans through the same function, so that both see the same records.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.corpus import JSONL, LINK, TEXT, Located, Span
from pipeline.corpus.documents import MADE, ColumnRoles, reject
from pipeline.corpus.lines import read_jsonl, read_text
from pipeline.corpus.tables import read_table
from pipeline.storage import storage


def read_span(span: Span, columns: ColumnRoles) -> Iterator[Located]:
    """The records of a span in order. OSError if the file cannot be opened; what cannot be understood is `Rejected`."""
    if span.file.format == JSONL:
        yield from read_jsonl(span, columns)
    elif span.file.format == TEXT:
        yield Located(read_text(span.file, columns), 1, 0)
    elif span.file.format == LINK:
        leads_to = storage.stat(span.file.uri).leads_to
        yield Located(reject(span.file.name, MADE, f"a link, and {leads_to}, where it leads to, is gone", None), 1, 0)
    else:
        yield from read_table(span, columns)
