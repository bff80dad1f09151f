"""Make data/sample-*.tsv: short pairs of the bundled files whose words are frequent there, some of them with placeholders."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

from fmhub.stems.marks import MARK

PLAIN, MARKED = 320, 40
DATA = Path(__file__).parent.parent / "src" / "fmhub_translation" / "data"


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


for path in sorted(DATA.glob("en-*.tsv.gz")):
    header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    counts = Counter(word for row in rows for word in words(row.split("\t")[0]))

    def known(row: str, counts: Counter[str] = counts) -> int:
        return -min((counts[word] for word in words(MARK.sub("", row.split("\t")[0]))), default=0)

    short = sorted((row for row in rows if len(row.split("\t")[0]) <= 32), key=lambda row: (known(row), row))
    marked = sorted((row for row in rows if len(row) <= 100 and MARK.search(row)), key=lambda row: (known(row), row))
    chosen = [*[row for row in short if not MARK.search(row)][:PLAIN], *marked[:MARKED]]
    Path(DATA / f"sample-{path.name[3:5]}.tsv").write_text("\n".join([header, *sorted(chosen)]) + "\n", encoding="utf-8")
