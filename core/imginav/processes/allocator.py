"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, see malloc.h."""

LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for what it allocates next; other C libraries than glibc are left alone.

    glibc gives large pieces back at once. A training step on a CPU then gets all its tensors as new pages, which the
    system has to clear first: it took an eighth longer (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
