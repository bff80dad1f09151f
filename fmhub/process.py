"""What a process of fmhub's own asks of Python and of the C library: for the memory that imports and steps leave behind, and to end.

A process that only calls fmhub keeps its own ways.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from typing import NoReturn


def collect_seldom() -> None:
    """A run's imports leave half a million objects for good: to look for cycles among them while they come takes a second."""
    global _ours
    _ours = True
    gc.set_threshold(50_000)


def collect_later() -> None:
    """After `collect_seldom`, where imports and a backbone's weights come next: not at all until `settle` (a fifth of a second)."""
    if _ours:
        gc.disable()


def settle() -> None:
    """After `collect_later`, once: what has come by then is not looked through any more, what comes from then on is."""
    if _ours and not gc.isenabled():  # a later member would keep for good what the one before has left
        gc.freeze()
        gc.enable()


_ours = False


def leave(code: int) -> NoReturn:
    """End a process of fmhub's own: what is registered for its end runs, then its memory goes as a whole, not object by object, which
    takes a fifth of a second after a run. Where others are still at work, it ends in Python's own way, which waits for them."""
    if all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        with contextlib.suppress(Exception):  # a stream that is closed or full: Python's own way says so
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def keep_memory() -> None:
    """Before PyTorch comes: what a step frees is kept for the next one, and few kernels are.

    glibc gives large blocks back and gets them again page by page; oneDNN keeps a kernel for each of a thousand shapes, and
    no two padded batches have the same.
    """
    import ctypes

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch asks for huge pages: a tenth of a step, where the system gives them
    mmap_threshold, trim_threshold = -3, -1  # malloc.h
    with contextlib.suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 32 << 20)  # as high as glibc itself would move it
        library.mallopt(trim_threshold, 128 << 20)
