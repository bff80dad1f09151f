"""Float32 matrix products on a processor: large ones by oneDNN, where it is as exact as PyTorch's BLAS.

That BLAS (MKL) uses half the width of AVX-512 on processors of another vendor; oneDNN uses all of it (2.2 times as fast on a Zen 5).
PyTorch hands it float32 products only where bfloat16 inside them is allowed, which nothing but AMX makes use of: that
nothing is rounded is measured, once a process, before it is believed. It writes a kernel for every new shape, which takes
longer than a small product: those stay with the BLAS.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

EXACT = 1e-6
"""Largest relative error of a product of 512 terms that counts as float32's own; with bfloat16 inside it is about 3e-3."""
_LOCK = threading.Lock()
_fast = _small = 0
_before = ""


@contextmanager
def fast_products() -> Iterator[None]:
    """Within it, products on the processor are oneDNN's. It may be nested, and entered by several threads."""
    if not _agree():
        yield
        return
    _enter(1, 0)
    try:
        yield
    finally:
        _enter(-1, 0)


@contextmanager
def small_ones() -> Iterator[None]:
    """Within it, which is within `fast_products`, products are the BLAS's again."""
    if not _fast:
        yield
        return
    _enter(0, 1)
    try:
        yield
    finally:
        _enter(0, -1)


def small_products(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
    """`function(*tensors)` with its products, and those of its backward pass, by the BLAS."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Small.apply(function, *tensors)  # type: ignore[no-any-return, no-untyped-call]
    with small_ones():
        return function(*tensors)


class _Small(torch.autograd.Function):
    """A graph within the graph, so that its backward pass can be seen to begin and to end."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
        with small_ones(), torch.enable_grad():
            inner = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
            result = function(*inner)
        ctx.inner, ctx.result = inner, result
        return result.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        asked = [tensor for tensor in ctx.inner if tensor.requires_grad]
        with small_ones():
            found = iter(torch.autograd.grad(ctx.result, asked, gradients))
        return None, *(next(found) if tensor.requires_grad else None for tensor in ctx.inner)


def _enter(fast: int, small: int) -> None:
    """Count who is within, and set what is to hold: of several threads the one with small products is heard."""
    global _fast, _small, _before
    with _LOCK:
        if not _fast and not _small:
            _before = _setting().fp32_precision
        _fast, _small = _fast + fast, _small + small
        _setting().fp32_precision = "bf16" if _fast and not _small else _before


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
