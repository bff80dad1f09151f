"""Linear layers with LoRA beside them, as one map."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Affine(NamedTuple):
    """x W^T + b + s (x A^T) B^T with W and b frozen; without an adapter A and B have rank 0."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    down: torch.Tensor
    up: torch.Tensor
    scale: float


def affine(module: Any) -> Affine | None:
    """What a frozen linear layer is, with LoRA, without, or with any adapter merged; None where it is more: trained itself, DoRA,
    a dropout at work."""
    base = getattr(module, "base_layer", module)
    if type(base) is not nn.Linear or any(parameter.requires_grad for parameter in base.parameters()):
        return None
    lora = getattr(module, "lora_A", None)
    if base is module or (module.merged and not module.disable_adapters):
        return Affine(base.weight, base.bias, base.weight[:0], base.weight[:, :0], 0.0)
    if lora is None or len(lora) != 1 or module.merged or module.disable_adapters or _varied(module):
        return None
    name = next(iter(lora))
    dropout = module.lora_dropout[name]
    if dropout.training and getattr(dropout, "p", 0):
        return None
    return Affine(base.weight, base.bias, lora[name].weight, module.lora_B[name].weight, module.scaling[name])


def linear(module: Any, x: torch.Tensor) -> torch.Tensor:
    """`module(x)`; frozen linear layers with LoRA in one step that keeps little."""
    parts = affine(module)
    if parts is None or not len(parts.down):
        return module(x)  # type: ignore[no-any-return]
    return LoraLinear.apply(x, *parts, torch.is_grad_enabled())  # type: ignore[no-any-return, no-untyped-call]


def _varied(module: Any) -> bool:
    """DoRA and other variants, whose formula is another."""
    return bool(getattr(module, "lora_variant", None)) or any(getattr(module, "use_dora", {}).values())


class LoraLinear(torch.autograd.Function):
    """x W^T + b + s (x A^T) B^T with W and b frozen, as x (W + s B A)^T + b; the backward pass skips what nobody asks for.

    Where the rows are few, that sum would cost more than it saves, and in bfloat16 W would lose most of it: then it is the
    products that are added.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float, learning: bool) -> torch.Tensor:
        ctx.scale = scale
        ctx.folded = x.dtype in (torch.float32, torch.float64) and len(x) * sum(weight.shape) > weight.numel()
        if ctx.folded:
            weight = torch.addmm(weight, b, a, alpha=scale)
            low, y = x @ a.t() if learning else None, F.linear(x, weight, bias)
        else:
            low = x @ a.t()
            y = F.linear(x, weight, bias).addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(x, weight, a, b, low)
        return y

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Any) -> Any:
        (dy,) = gradients
        x, weight, a, b, low = ctx.saved_tensors
        dlow = (dy @ b).mul_(ctx.scale)
        # the thin factor on the left is several times as fast as on the right
        db = (low.t() @ dy).t().mul(ctx.scale) if ctx.needs_input_grad[4] else None
        da = dlow.t() @ x if ctx.needs_input_grad[3] else None
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        if dx is not None and not ctx.folded:
            dx.addmm_(dlow, a)
        return dx, None, None, da, db, None, None
