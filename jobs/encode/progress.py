"""How far an encode job is, as its caller is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """Before anything is encoded `chunks` is 0: workers are loading."""

    chunks: int  # encoded so far
    of: int  # the plan only estimates, so this follows what finished units held
    rejected: int  # documents
