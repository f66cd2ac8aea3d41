"""The teacher's vectors of texts, kept in a run by the texts' hashes: RUN/teacher/NUMBER.npz.

They know nothing of a codec, so a run for another codec begins with a copy of the folder. A part is written once it is
read, so a killed run loses minutes. Shapes: N texts, E width.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

PART = 4096  # texts of a file


def taught(
    texts: Sequence[str],
    folder: Path,
    read: Callable[[Sequence[str]], np.ndarray],
    say: Callable[[str], object] = lambda line: None,
) -> np.ndarray:
    """float16 [N, E]. `read` gives the vectors [n, E] of texts that the folder has not."""
    vectors_of = _kept(folder)
    digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in vectors_of}
    unread = list(new)
    for first in range(0, len(unread), PART):
        say(f"the teacher has read {first:,} of {len(unread):,} texts")
        part = unread[first : first + PART]
        vectors = read([new[digest] for digest in part]).astype(np.float16)
        _keep(folder, part, vectors)
        vectors_of |= dict(zip(part, vectors, strict=True))
    return np.stack([vectors_of[digest] for digest in digests])


def _kept(folder: Path) -> dict[bytes, np.ndarray]:
    found: dict[bytes, np.ndarray] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as part:
            found |= dict(zip(map(bytes, part["digests"]), part["vectors"], strict=True))
    return found


def _keep(folder: Path, digests: list[bytes], vectors: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{len(list(folder.glob('*.npz'))):06d}.npz"
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, digests=np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1), vectors=vectors)
    os.replace(unfinished, path)
