"""Text to token ids and back, and the cut into chunks that tile a document exactly.

A chunk's ids are a slice of the document's ids, so nothing is tokenised twice; its text is the slice of the document
between two boundaries. A boundary never falls inside a character, nor between a character and the marks that modify it.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from model.refusal import Missing

SEGMENT_CHARS = 1_000_000  # a longer document is tokenised in pieces, so that memory does not grow with it
ZERO_WIDTH_JOINER = "\u200d"
EXTENDING = (  # characters of other categories that belong to the one before (Unicode Annex 29)
    ("\u1160", "\u11ff"),  # Hangul vowels and finals
    ("\ud7b0", "\ud7fb"),  # the same, old Korean
    ("\u200c", "\u200d"),  # zero-width non-joiner and joiner
    ("\uff9e", "\uff9f"),  # voicing of half-width kana
    ("\U0001f3fb", "\U0001f3ff"),  # skin tones
    ("\U000e0020", "\U000e007f"),  # tags that spell a region's flag
)


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """At most `chunk_tokens` tokens of one document. `lossy`: decoding the ids does not give the text back."""

    position: int  # 0-based place in the document
    char_start: int  # code points, half open
    char_end: int
    token_ids: np.ndarray  # int32 [L]
    lossy: bool


class TextTokenizer:
    """A fast tokenizer used as a plain reversible code: no special tokens added, none recognised in the text.

    Needs neither torch nor transformers, so that what only reads and chunks starts fast.
    """

    def __init__(self, backend: Tokenizer):
        self._backend = _plain(backend)
        self.vocab_size = self._backend.get_vocab_size(with_added_tokens=True)
        self.fingerprint = hashlib.sha256(self._backend.to_str().encode()).hexdigest()[:32]

    @classmethod
    def load(cls, path: str | Path) -> TextTokenizer:
        """From a tokenizer.json. FileNotFoundError where there is none."""
        if not Path(path).is_file():
            raise Missing(f"{path} is missing: use a backbone with a fast tokenizer (a tokenizer.json)")
        return cls(Tokenizer.from_file(str(path)))

    def save(self, path: str | Path) -> None:
        self._backend.save(str(path))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; `<|endoftext|>` written out in it is text like any other."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the ids, specials included; bytes that are no UTF-8 come back as U+FFFD."""
        return self._backend.decode(list(map(int, token_ids)), skip_special_tokens=False)

    def chunks(self, text: str, limit: int) -> Iterator[TokenChunk]:
        """Chunks of at most `limit` tokens whose texts concatenate to `text`. Empty text gives none."""
        position = 0
        for offset, segment in _segments(text):
            for start, end, ids in self._cut(segment, limit):
                lossy = self.decode(ids) != segment[start:end]
                yield TokenChunk(position, offset + start, offset + end, ids, lossy)
                position += 1

    def cut_many(self, texts: Sequence[str], limit: int) -> list[list[np.ndarray]]:
        """Token ids of the chunks of each text, those that have any; on every core where the tokenizer may."""
        segments = [(i, segment) for i, text in enumerate(texts) for _, segment in _segments(text)]
        encodings = self._backend.encode_batch([segment for _, segment in segments], add_special_tokens=False)
        cut: list[list[np.ndarray]] = [[] for _ in texts]
        for (i, segment), encoding in zip(segments, encodings, strict=True):
            cut[i] += [ids for _, _, ids in _slices(segment, encoding, limit) if len(ids)]
        return cut

    def _cut(self, text: str, limit: int) -> Iterator[tuple[int, int, np.ndarray]]:
        return _slices(text, self._backend.encode(text, add_special_tokens=False), limit)


def chunk_id(doc_id: str, position: int, token_ids: Sequence[int]) -> str:
    """32 hex digits: the same document, place and tokens give the same id on any machine."""
    digest = hashlib.blake2b(digest_size=16)
    name = doc_id.encode()
    digest.update(len(name).to_bytes(8, "little") + name + int(position).to_bytes(8, "little"))
    digest.update(np.asarray(token_ids, dtype="<u4").tobytes())
    return digest.hexdigest()


def text_hash(text: str) -> str:
    """32 hex digits of the UTF-8 text. A lone surrogate, which has no UTF-8 form, is hashed as it stands."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(backend: Tokenizer) -> Tokenizer:
    """A copy that adds, pads, truncates and trims nothing, and reads special tokens in a text as text."""
    settings = json.loads(backend.to_str())
    settings.update(post_processor=None, padding=None, truncation=None)
    plain = Tokenizer.from_str(json.dumps(settings))
    plain.encode_special_tokens = True
    return plain


def _segments(text: str) -> Iterator[tuple[int, str]]:
    """Pieces of at most SEGMENT_CHARS, cut after a line end where there is one in the last tenth."""
    start = 0
    while len(text) - start > SEGMENT_CHARS:
        end = start + SEGMENT_CHARS
        line = text.rfind("\n", end - SEGMENT_CHARS // 10, end)
        end = line + 1 if line >= 0 else end
        while end > start + 1 and _continues(text, end, start):
            end -= 1
        yield start, text[start:end]
        start = end
    if start < len(text):
        yield start, text[start:]


def _slices(text: str, encoding: Encoding, limit: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Where each chunk of a segment starts and ends in it, and its ids."""
    ids = np.array(encoding.ids, dtype=np.int32)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    if len(ids) == 0:  # a tokenizer that drops the whole text: it is kept as text, in one lossy chunk
        yield 0, len(text), ids
        return
    first, char = 0, 0
    while first < len(ids):
        last = _boundary(text, offsets, first, limit)
        end = len(text) if last == len(ids) else int(offsets[last, 0])
        yield char, end, ids[first:last]
        first, char = last, end


def _boundary(text: str, offsets: np.ndarray, first: int, limit: int) -> int:
    """Index of the first token of the next chunk: as late as `limit` allows, between characters, before no mark."""
    last = min(first + limit, len(offsets))
    if last == len(offsets):
        return last
    between = [i for i in range(last, first, -1) if offsets[i, 0] >= offsets[i - 1, 1]]
    for i in between:
        if not _continues(text, int(offsets[i, 0]), int(offsets[first, 0])):
            return i
    return between[0] if between else last


def _continues(text: str, index: int, start: int) -> bool:
    """Whether the character at `index` modifies or is joined to the one before. `start`: where a character starts."""
    if index <= start or index >= len(text):
        return False
    char, before = text[index], text[index - 1]
    return (
        unicodedata.category(char) in ("Mn", "Me", "Mc")  # combining marks, variation selectors
        or any(first <= char <= last for first, last in EXTENDING)
        or before == ZERO_WIDTH_JOINER
        or (before == "\r" and char == "\n")
        or (_is_flag_half(char) and _flag_halves_before(text, index, start) % 2 == 1)
    )


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_halves_before(text: str, index: int, start: int) -> int:
    first = index
    while first > start and _is_flag_half(text[first - 1]):
        first -= 1
    return index - first
