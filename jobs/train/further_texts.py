"""Texts whose queries teach a head's light side, without latents: files of passages, cut as a bank cuts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from model.tokens import TextTokenizer
from pipeline.corpus.corpus import Span, corpus_files
from pipeline.corpus.documents import ColumnRoles, Document
from pipeline.corpus.passages import SUFFIXES
from pipeline.corpus.readers import read_span

TITLE, LICENCE = "title", "license"  # the user's columns that are read where there are some
SHORTEST = 12  # tokens: shorter chunks are the ends of documents


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk's text, and what its document says of itself."""

    text: str
    title: str | None
    licence: str | None


def is_file_of_texts(path: str) -> bool:
    """Whether --data names a file of passages, and not a bank."""
    return path.endswith(SUFFIXES)


def further_texts(
    paths: Sequence[str], tokenizer: TextTokenizer, limit: int, *, without: set[str], most: int
) -> list[Passage]:
    """The first passages of the files whose text is not known already; chunks of `limit` tokens at most."""
    found = (passage for passage in _passages(paths, tokenizer, limit) if passage.text not in without)
    return list(islice(found, most))


def _passages(paths: Sequence[str], tokenizer: TextTokenizer, limit: int) -> Iterator[Passage]:
    about_it = (TITLE, LICENCE)
    columns = ColumnRoles(metadata=about_it, metadata_fields=tuple(pa.field(name, pa.string()) for name in about_it))
    for file in corpus_files(list(paths)) if paths else ():
        for located in read_span(Span(file), columns):
            if isinstance(document := located.item, Document):
                about = document.metadata.get(TITLE), document.metadata.get(LICENCE)
                for chunk in tokenizer.chunks(document.text, limit):
                    if len(chunk.token_ids) >= SHORTEST:
                        yield Passage(document.text[chunk.char_start : chunk.char_end], *about)
