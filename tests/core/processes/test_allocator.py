"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, os, resource, sys
from imginav.processes.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 64 * 2**20
for _ in range(8):
    piece = libc.malloc(size)
    ctypes.memset(piece, 1, size)
    libc.free(piece)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is what it asks")
def test_what_is_freed_is_not_asked_for_again() -> None:
    # Where the system gives huge pages, a piece of 64 MiB takes 32 faults, and 16,384 otherwise.
    assert page_faults("given back") > page_faults("kept") + 100
