"""What a person can mend: the only errors that the command prints as a bare line. Everything else is a fault of ours.

Each is also the plain Python error of its kind, for whoever calls this code and looks out for that one.
"""

from __future__ import annotations


class Refusal(ValueError):  # noqa: N818  (it reads as what it says)
    """What was found, what was wanted, what to do, in a line. A ValueError that we meant to raise."""


class Missing(Refusal, FileNotFoundError):  # noqa: N818
    """Nothing lies where something is named."""


class Taken(Refusal, FileExistsError):  # noqa: N818
    """Something lies where a new thing is to be made."""


class Unavailable(Refusal, RuntimeError):  # noqa: N818
    """What is needed is not there now: another job is at work, a cluster does not answer, a disk is full."""


class Unreachable(Refusal, ConnectionError):  # noqa: N818
    """A server does not answer."""
