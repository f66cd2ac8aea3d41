"""glibc gives every large block back to the system when it is freed, and the next one comes zeroed, page by page.

On a CPU that is what a forward in bf16 mostly waits for: activations are megabytes, and each operation makes new ones.
Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # names of mallopt's parameters
NEVER, PADDING = 2**31 - 1, 64 << 20


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees and uses it again; its peak is as before, and it stays there.

    It does so in the main arena: a thread that has one of its own needs MALLOC_ARENA_MAX=1 from the process's start.
    False where the C library knows no mallopt: nothing has changed then.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(name, value) for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER), (TOP_PAD, PADDING)))
