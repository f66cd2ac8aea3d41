"""The token that a Ray cluster asks for: where Ray looks for it. It is never printed and never part of a job."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model.refusal import Refusal

NAMES = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH (a file that holds it) or ~/.ray/auth_token"


@dataclass(frozen=True, slots=True)
class Token:
    """`source`: the variable or file it came from, for messages."""

    source: str
    value: str

    def __repr__(self) -> str:
        return f"Token({self.source})"

    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.value}"}


def find_token() -> Token | None:
    """The token in Ray's own order: variable, file that a variable names, file in the home folder.

    Raises ValueError where RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return None
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token("RAY_AUTH_TOKEN", value)
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return Token(f"RAY_AUTH_TOKEN_PATH={named}", Path(named).read_text().strip())
        except OSError as error:
            raise Refusal(f"RAY_AUTH_TOKEN_PATH={named} cannot be read ({error.strerror}): name the file") from None
    home = Path(os.path.expanduser("~/.ray/auth_token"))
    with suppress(OSError):  # none there, or the home folder is another user's
        return Token(str(home), home.read_text().strip())
    return None


def join_with_token() -> None:
    """Let Ray send the token that a variable names to the cluster of RAY_ADDRESS; to its own it does so by itself.

    A token that merely lies in the home folder says nothing about the cluster: Ray leaves one there for itself, and a
    driver that wants tokens cannot work with a cluster that sends none (its workers find their driver dead).
    To be called before Ray is imported, which is when it reads the mode.
    """
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named and os.environ.get("RAY_ADDRESS", "local") != "local":
        os.environ.setdefault("RAY_AUTH_MODE", "token")
