"""Make src/fmhub_speech/data/LANGUAGE.parquet from folders of prompts with their scripts; needs fmhub-text, which finds near-duplicates.

    python tools/make_prompts.py FOLDER

FOLDER has LANGUAGE.tsv (file, seconds, text; tab separated, never quoted) and LANGUAGE/FILE, Opus in Ogg.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fmhub.data.near import pages
from fmhub.evaluation.metrics.transcripts import folded

OUT = Path(__file__).parents[1] / "src/fmhub_speech/data"
LANGUAGES = ("en", "es", "fr", "it", "ru")
SIGNS = re.compile(r"[*#@\[\]()�]")
"""Scripts that show a sign instead of the word that is said, or say more than is said, are left out."""


def main(folder: Path) -> None:
    for language in LANGUAGES:
        with (folder / f"{language}.tsv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if not SIGNS.search(row["text"])]
        names = [Path(row["file"]).stem for row in rows]
        texts = [" ".join(row["text"].split()) for row in rows]
        table = pa.table(
            {
                "id": names,
                "seconds": pa.array([float(row["seconds"]) for row in rows], pa.float64()),
                "text": texts,
                "group": pages([folded(text) for text in texts], names),
                "audio": pa.array([(folder / language / row["file"]).read_bytes() for row in rows], pa.binary()),
            }
        )
        packed = {name: "none" if name == "audio" else "zstd" for name in table.column_names}  # Opus is packed already
        pq.write_table(table, OUT / f"{language}.parquet", compression=packed, use_dictionary=False)
        minutes, tied = sum(table["seconds"].to_pylist()) / 60, len(set(table["group"].to_pylist()))
        print(f"{language}: {len(table)} prompts, {minutes:.1f} minutes, {tied} groups")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
