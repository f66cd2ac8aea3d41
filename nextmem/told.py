"""An error as the one line that a person reads: a refusal as it stands, the machine's trouble plainly, a fault of ours
as ours.
"""

from __future__ import annotations

import errno
import os
import re

from model.refusal import Refusal
from pipeline.storage.s3_errors import explained

DEBUG = "NEXTMEM_DEBUG"  # set to 1, the whole traceback is shown instead of a line
MACHINE = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE", "EMFILE", "ENFILE", "ENOMEM"),
        *("ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP", "EBUSY", "ENODEV", "ENXIO", "ENOTCONN", "EPIPE"),
        *("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EADDRINUSE"),
    )
    if hasattr(errno, name)
}  # what the machine, the disk or the network lacks; no program can put it right
OURS = ("model", "pipeline", "jobs")
_SYSTEM = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")  # how delta-rs, and an error of a worker, name the system's
_ENDED_BY_RAY = re.compile(r"(\d+) worker\(s\) were killed due to the node running low on memory")
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|Cannot allocate memory", re.IGNORECASE)


def told(error: BaseException) -> str:
    """One line. What no person can mend is named as a fault, and the line says how to see more."""
    if store := explained(error):
        return store
    if isinstance(error, Refusal):
        return _flat(error.args[0] if error.args else error)
    return _machine(error) or _fault(error)


def _machine(error: BaseException) -> str | None:
    """What the machine lacks; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None and error.errno in MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        return where + _flat(error.strerror or os.strerror(error.errno))
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in OURS:
        needed = f"the package {error.name} is not installed: install it, or nextmem anew with all that it needs"
        return needed if error.name else _flat(error)
    if isinstance(error, UnicodeEncodeError) and any("\udc80" <= c <= "\udcff" for c in str(error.object)):
        return f"{os.fsencode(error.object)!r} is not UTF-8: give it in UTF-8, or rename it"
    said = str(error)
    if found := _ENDED_BY_RAY.search(said):
        return (
            f"a node's memory ran out, and Ray ended {found[1]} workers on it: give fewer --actors, or nodes with more "
            "memory. What was finished is committed; the same command goes on"
        )
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(said)):
        return f"memory ran out ({_flat(said) or 'no more was to be had'}): encode or recall fewer chunks at once"
    if (found := _SYSTEM.search(said)) and int(found[1] or found[2]) in MACHINE:
        return _flat(said)
    return None


def _fault(error: BaseException) -> str:
    message = _flat(error)
    what = type(error).__name__ + (f": {message}" if message else "")
    return f"{what} (this is a fault of nextmem, not yours; {DEBUG}=1 shows where it happened)"


def _flat(message: object) -> str:
    return " ".join(str(message).split())
