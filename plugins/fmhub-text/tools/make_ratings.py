"""Make src/fmhub_text/data/ratings.csv.gz from the rating files of vaderSentiment 0.5: groups, and one fixed split.

    python tools/make_ratings.py ratings.tsv.gz

Input columns: domain, id, rating, text (tab separated, never quoted).
"""

from __future__ import annotations

import csv
import gzip
import html
import io
import random
import sys
from collections import defaultdict
from pathlib import Path

from fmhub.data.near import pages

OUT = Path(__file__).parents[1] / "src/fmhub_text/data/ratings.csv.gz"
SHARES = {"test": 0.2, "validation": 0.1}
SEED = 20140601  # Hutto & Gilbert, June 2014


def main(source: str) -> None:
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    texts = [html.unescape(html.unescape(row["text"])).strip() for row in rows]
    tied = pages(texts, [document(row) for row in rows])
    part = split(tied)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "domain", "group", "split", "rating", "text"])
    for row, text, group in zip(rows, texts, tied, strict=True):
        writer.writerow([f"{row['domain']}-{row['id']}", row["domain"], group, part[group], f"{float(row['rating']):.4f}", text])
    OUT.write_bytes(gzip.compress(buffer.getvalue().encode(), 9, mtime=0))


def document(row: dict[str, str]) -> str:
    """Sentences of one review or article belong together; a tweet or a film snippet stands alone."""
    name = row["id"].split("_")[0] if row["domain"] in ("amazon", "news") else row["id"]
    return f"{row['domain']}-{name}"


def split(tied: list[str]) -> dict[str, str]:
    """Of each domain's groups, in a seeded order: test, then validation until their share of its rows is reached, the rest train."""
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group in tied:
        sizes[group.split("-")[0]][group] += 1
    parts = {}
    for domain in sorted(sizes):
        order = sorted(sizes[domain])
        random.Random(f"{SEED} {domain}").shuffle(order)
        left = {name: share * sum(sizes[domain].values()) for name, share in SHARES.items()}
        for group in order:
            name = next((name for name in SHARES if left[name] > 0), "train")
            parts[group] = name
            left[name] = left.get(name, 0) - sizes[domain][group]
    return parts


if __name__ == "__main__":
    main(sys.argv[1])
