"""Float32 matrix products on a processor by oneDNN, where it is as exact as PyTorch's BLAS.

That BLAS (MKL) uses half the width of AVX-512 on processors of another vendor; oneDNN uses all of it (2.2 times as fast on a Zen 5).
PyTorch hands it float32 products only where bfloat16 inside them is allowed, which nothing but AMX makes use of: that
nothing is rounded is measured, once a process, before it is believed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

EXACT = 1e-6
"""Largest relative error of a product of 512 terms that counts as float32's own; with bfloat16 inside it is about 3e-3."""
_LOCK = threading.Lock()
_inside = 0
_before = ""


@contextmanager
def fast_products() -> Iterator[None]:
    """Within it, products on the processor are oneDNN's. It may be nested, and entered by several threads."""
    global _inside, _before
    if not _agree():
        yield
        return
    with _LOCK:
        if not _inside:
            _before = _setting().fp32_precision
            _setting().fp32_precision = "bf16"
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                _setting().fp32_precision = _before


def _setting() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)  # of its own: what is allowed on accelerators stays as it is


@functools.cache
def _agree() -> bool:
    setting = _setting()
    if not hasattr(setting, "fp32_precision"):  # an older PyTorch
        return False
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(512, 512, generator=generator) for _ in range(2))
    before, setting.fp32_precision = setting.fp32_precision, "bf16"
    try:
        found = one @ other
    finally:
        setting.fp32_precision = before
    exact = one.double() @ other.double()
    return bool((found - exact).norm() <= EXACT * exact.norm())
