"""Make data/strings.csv.gz and data/sample.csv from the bundled pairs of fmhub-translation: `python tools/make_strings.py`."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

ROWS, SAMPLE = 600, 96
HERE = Path(__file__).parent.parent
PAIRS = HERE.parent / "fmhub-translation" / "src" / "fmhub_translation" / "data"


def packed(texts: list[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["text"], *([text] for text in texts)])
    return file.getvalue().encode()


lines = {line.split("\t")[0] for path in PAIRS.glob("en-*.tsv.gz") for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:]}
texts = sorted(text for text in lines if 3 <= len(text.split()) <= 24)
random.Random(0).shuffle(texts)
short = [text for text in texts[ROWS:] if len(text.split()) <= 6 and text.isascii() and '"' not in text][:SAMPLE]
data = HERE / "src" / "fmhub_generation" / "data"
(data / "strings.csv.gz").write_bytes(gzip.compress(packed(sorted(texts[:ROWS])), mtime=0))
(data / "sample.csv").write_bytes(packed(sorted(short)))
