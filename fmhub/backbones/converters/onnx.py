"""The initialisers and nodes of an ONNX file, read from its protobuf wire format; nothing else of the graph is looked at.

The `onnx` package would bring protobuf and 18 MB into every installation for what these few lines do. A file is only
opened after its hash was found right, so that this reader need not be quick to refuse; it is bounded all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fmhub.errors import UntrustedFile


@dataclass(frozen=True)
class Node:
    """One operation: `/encoder/layer.0/.../MatMul` with the names of what it reads."""

    name: str
    kind: str
    inputs: tuple[str, ...]


def read(data: bytes) -> tuple[dict[str, np.ndarray], list[Node]]:
    """({name: float32 array} of all initialisers, nodes). Raises `UntrustedFile` for a file that is not ONNX with raw float32."""
    try:
        # ModelProto.graph = 7; GraphProto.node = 1, initializer = 5
        graph = next(bytes(value) for field, value in _fields(memoryview(data)) if field == 7 and isinstance(value, memoryview))
        tensors: dict[str, np.ndarray] = {}
        nodes = []
        for field, value in _fields(memoryview(graph)):
            if field == 5 and isinstance(value, memoryview):
                name, array = _tensor(value)
                tensors[name] = array
            elif field == 1 and isinstance(value, memoryview):
                nodes.append(_node(value))
    except (StopIteration, IndexError, ValueError, UnicodeDecodeError) as error:
        raise UntrustedFile(f"Not an ONNX file that can be converted: {str(error) or 'it has no graph'}.") from None
    return tensors, nodes


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one message: varints as numbers, everything else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} is not known")
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        number |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return number, at
    raise ValueError("a number has more than 10 bytes")


def _tensor(data: memoryview) -> tuple[str, np.ndarray]:
    """TensorProto: dims = 1 (packed or not), data_type = 2 (1 is float32), name = 8, raw_data = 9."""
    shape: list[int] = []
    name, kind, raw = "", 0, memoryview(b"")
    for field, value in _fields(data):
        if field == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 8 and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif field == 9 and isinstance(value, memoryview):
            raw = value
    if kind != 1:
        raise ValueError(f"initialiser {name} is of type {kind}, not float32")
    return name, np.frombuffer(raw, "<f4").reshape(shape)


def _packed(data: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers


def _node(data: memoryview) -> Node:
    """NodeProto: input = 1, name = 3, op_type = 4."""
    texts: dict[int, list[str]] = {1: [], 3: [""], 4: [""]}
    for field, value in _fields(data):
        if field in texts and isinstance(value, memoryview):
            texts[field].append(str(value, "utf-8"))
    return Node(texts[3][-1], texts[4][-1], tuple(texts[1]))
