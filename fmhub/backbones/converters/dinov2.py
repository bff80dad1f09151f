"""DINOv2 ViT-S/14 (Oquab et al. 2023, arXiv:2304.07193) from the ONNX export inside a saliency detector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fmhub.backbones.converters.onnx import read
from fmhub.backbones.converters.tensors import to_bytes
from fmhub.errors import UntrustedFile

CONFIG = {
    "architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
    "mlp_ratio": 4, "patch_size": 14, "image_size": 518, "num_channels": 3, "layer_norm_eps": 1e-6, "layerscale_value": 1.0,
    "hidden_act": "gelu", "qkv_bias": True, "drop_path_rate": 0.0, "use_swiglu_ffn": False,
}  # fmt: skip
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")
"""The class token's, and those of 37 x 37 patches."""
TENSORS = 5 + 12 * 18 + 2
"""class token, mask token, positions, two of the patches; 18 a layer; the last norm."""


def convert(files: Mapping[str, Path]) -> dict[str, bytes]:
    """config.json, preprocessor_config.json and model.safetensors under the hub's older names, which transformers renames.

    The exporter kept the names of biases, norms and scales; a linear layer's weight became the second input of the MatMul
    that stands at its path, transposed. Positions were cut in two. The mask token is of no
    use outside pretraining and was left out by the exporter: zeros stand for it. The detector's decoder is dropped.
    """
    tensors, nodes = read(files["model.onnx"].read_bytes())
    state = {name.removeprefix("backbone."): array for name, array in tensors.items() if name.startswith("backbone.")}
    for node in nodes:
        if node.kind == "MatMul" and node.name.startswith("/backbone/encoder/") and node.inputs[1] in tensors:
            path = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state[f"{path}.weight"] = tensors[node.inputs[1]].T
    for name in POSITIONS:
        if tensors.get(name, np.zeros(0)).ndim != 3:
            raise UntrustedFile(f"The ONNX file has no {name}: it is not the export that this converter knows.")
    state["embeddings.position_embeddings"] = np.concatenate([tensors[name] for name in POSITIONS], axis=1)
    state["embeddings.mask_token"] = np.zeros((1, 384), np.float32)
    if len(state) != TENSORS:
        raise UntrustedFile(f"The ONNX file gives {len(state)} tensors of DINOv2 where {TENSORS} were expected.")
    texts = {"config.json": CONFIG, "preprocessor_config.json": IMAGENET}
    return {"model.safetensors": to_bytes(state), **{name: (json.dumps(text, indent=1) + "\n").encode() for name, text in texts.items()}}
