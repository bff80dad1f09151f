"""oneDNN's float32 products: as exact as PyTorch's own, and gone again afterwards."""

from __future__ import annotations

import pytest
import torch

from fmhub.backbones import products
from fmhub.backbones.products import fast_products


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
