"""oneDNN's float32 products: as exact as PyTorch's own, and gone again afterwards."""

from __future__ import annotations

import pytest
import torch

from fmhub.backbones import products
from fmhub.backbones.products import fast_products, small_products


@pytest.fixture(autouse=True)
def _measured_again():
    products._agree.cache_clear()
    yield
    products._agree.cache_clear()


@pytest.mark.parametrize("shape", [(1, 384, 8), (37, 384, 384), (300, 1536, 384)])
def test_a_product_within_it_is_float32s_own(shape):
    rows, inner, columns = shape
    one, other = torch.randn(rows, inner), torch.randn(inner, columns)
    exact = one.double() @ other.double()
    with fast_products():
        found = one @ other
    assert (found - exact).norm() <= 2e-6 * exact.norm()


def test_the_setting_is_as_it_was_however_it_is_left():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with fast_products(), fast_products():
        pass
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    with pytest.raises(ZeroDivisionError), fast_products():
        1 / 0  # noqa: B018
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_processor_that_would_round_is_left_alone(monkeypatch):
    monkeypatch.setattr(products, "EXACT", 0.0)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with fast_products():
        assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_small_products_are_the_blas_in_both_directions_and_equal_to_plain_ones():
    settings, inside = [], []

    def product(one, other):
        settings.append(torch.backends.mkldnn.matmul.fp32_precision)
        one.register_hook(lambda _: inside.append(torch.backends.mkldnn.matmul.fp32_precision))
        return (one @ other).softmax(-1)

    before = torch.backends.mkldnn.matmul.fp32_precision
    one, other, target = (torch.randn(5, 7, requires_grad=True), torch.randn(7, 3), torch.randn(5, 3))
    with fast_products():
        fast = torch.backends.mkldnn.matmul.fp32_precision
        result = small_products(product, one, other)
        assert torch.backends.mkldnn.matmul.fp32_precision == fast
        (found,) = torch.autograd.grad((result * target).sum(), one)
        assert torch.backends.mkldnn.matmul.fp32_precision == fast
    assert (settings, inside) == ([before], [before])
    (expected,) = torch.autograd.grad(((one @ other).softmax(-1) * target).sum(), one)
    torch.testing.assert_close(found, expected)
    with torch.no_grad(), fast_products():
        plain = small_products(torch.matmul, one, other)
    torch.testing.assert_close(plain, one.detach() @ other)


def test_the_setting_is_as_it_was_when_a_small_product_fails_and_whoever_leaves_first():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with fast_products(), pytest.raises(RuntimeError):
        small_products(torch.matmul, torch.randn(2, 3), torch.randn(2, 3))
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    fast = fast_products()
    fast.__enter__()
    with products.small_ones():
        fast.__exit__(None, None, None)
        assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert torch.backends.mkldnn.matmul.fp32_precision == before
