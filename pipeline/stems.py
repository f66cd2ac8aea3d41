"""The words of a text as a small sparse column: hashed stems and how often each occurs.

About 60 stems of 5 bytes stand for a chunk of 128 tokens. A hash cannot be read back, but whoever guesses a word can
look for it: stems tell as much of a text as its latents do. Stop words are kept: a list of them changed nDCG by at most
.005 on six sets (docs/search.md), and "to be or not to be" is a query too.
"""

from __future__ import annotations

import functools
import re
import unicodedata
import zlib
from collections import Counter

import numpy as np

from model.refusal import Unavailable

STEM = np.dtype([("stem", "<u4"), ("count", "u1")])  # CRC-32 of the stem's UTF-8; its occurrences, at most 255
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # no spaces between words
_WORD = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|[^\W{_UNSPACED}]+")
_HEAD, _TAIL = re.compile(rf"[^\W{_UNSPACED}]*\Z"), re.compile(rf"[^\W{_UNSPACED}]*")
_LONGEST = 64  # characters that a word is looked for on either side of a cut
MISSING = "words need the package PyStemmer, which is not installed: pip install 'nextmem[words]'"


def words(text: str) -> list[str]:
    """Words in order, folded to one case. Scripts without spaces, such as Chinese, give each pair of neighbours."""
    found: list[str] = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).casefold()):
        word = match[0]
        pairs = match["unspaced"] and len(word) > 1
        found += [word[i : i + 2] for i in range(len(word) - 1)] if pairs else [word]
    return found


def with_whole_words(text: str, start: int, end: int) -> str:
    """text[start:end] with the words whole that its ends cut: tokens may end inside a word, and rare words are long."""
    before, after = text[max(0, start - _LONGEST) : start], text[end : end + _LONGEST]
    head = _HEAD.search(before)[0] if _TAIL.match(text, start, end)[0] else ""
    tail = _TAIL.match(after)[0] if _HEAD.search(text[max(start, end - _LONGEST) : end])[0] else ""
    return head + text[start:end] + tail


def hashes(words: list[str]) -> list[int]:
    """Each word's stem, by Snowball's English rules, as 32 bits. Words of other languages stay much as they are."""
    return [zlib.crc32(stem.encode()) for stem in _stemmer().stemWords(words)]


def pack(text: str) -> bytes:
    """The text's stems, sorted by hash: an array of STEM. Empty for a text without words."""
    counts = sorted(Counter(hashes(words(text))).items())
    return np.array([(stem, min(count, 255)) for stem, count in counts], STEM).tobytes()


@functools.cache
def _stemmer():
    try:
        import Stemmer
    except ImportError:
        raise Unavailable(MISSING) from None
    return Stemmer.Stemmer("english")


def require_stemmer() -> None:
    """Raises Unavailable where words cannot be made: before a job starts, not in its workers."""
    _stemmer()
