"""Where a Ray that starts here keeps its session: its sockets' paths must be short, and a job's TMPDIR may be long."""

from __future__ import annotations

import os
import sys
import tempfile

from model.refusal import Refusal

SOCKET_PATH = 107 if sys.platform == "linux" else 103  # characters that the system takes, without the closing zero
LONGEST = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.10"  # below the folder, as Ray names it
SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def ray_folder() -> str | None:
    """The folder for Ray's sessions; None where the one it would take itself will do. Says so where it is another.

    Raises Refusal where RAY_TMPDIR, which is a person's own choice, will not do, or no short folder can be written to.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    found = chosen or os.environ.get("TMPDIR") or tempfile.gettempdir()
    fault = _fault(found)
    if fault is None:
        return None
    if chosen:
        raise Refusal(f"RAY_TMPDIR={found} {fault}: name a short folder that can be written to, such as /tmp")
    for folder in SHORT:
        if _fault(folder) is None:
            print(f"TMPDIR={found} {fault}; Ray keeps its session in {folder}/ray", file=sys.stderr, flush=True)
            return f"{folder}/ray"
    raise Refusal(f"TMPDIR={found} {fault}: set RAY_TMPDIR to a short folder that can be written to")


def require_home() -> None:
    """Ray keeps a token of its own in the home folder. Raises Refusal where it could not."""
    home = os.path.expanduser("~/.ray")
    try:
        os.makedirs(home, exist_ok=True)
    except OSError as error:
        raise Refusal(
            f"{home}, where Ray keeps its token, cannot be made ({error.strerror}): set HOME to a folder that can be "
            "written to, and NEXTMEM_CACHE for converted weights"
        ) from None


def _fault(folder: str) -> str | None:
    """What keeps Ray from using a folder."""
    if not os.path.isabs(folder):
        return "is not an absolute path, which Ray wants"
    room = SOCKET_PATH - len(LONGEST)
    if len(os.fsencode(folder)) > room:
        return f"is too long for Ray's sockets, by {len(os.fsencode(folder)) - room} characters"
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written to ({error.strerror})"
