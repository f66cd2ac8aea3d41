"""Two texts side by side: which words of each are not, in order, in the other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}  # a page may hold none of these
WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of words with the white space before each."""

    text: str
    same: bool  # as in the other text


def visible(text: str) -> str:
    """Control characters as the signs that stand for them: U+2400 on."""
    return text.translate(CONTROLS)


def differences(original: str, found: str) -> tuple[list[Piece], list[Piece]]:
    """Pieces of both texts. Joined they are the texts again; the pieces that are `same` are equal, one by one.

    By whole words: half a word that came back is no word that came back.
    """
    before, after = WORD.findall(original), WORD.findall(found)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for side, words in ((left, before[a:b]), (right, after[c:d])):
            if words:
                side.append(Piece("".join(words), kind == "equal"))
    return left, right
