"""MovieLens-100k (943 people, 1,682 films, 100,000 ratings of 1997-98): for research only, so it is fetched and never shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    import pyarrow as pa

ARTIFACT = Artifact(
    name="movielens-100k",
    files=(
        File("ml-100k.inter", "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"),
        File("ml-100k.item", "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
    ),
    sources=(Wheel("recbole==1.2.1", path="recbole/dataset_example/ml-100k/"),),
)


def ratings() -> pa.Table:
    """One row a rating, in the file's order: user, item, time (seconds), title with its year, genres; the stars are not used."""
    import pyarrow as pa

    from fmhub.artifacts import fetch

    place = fetch(ARTIFACT)
    films = {}
    for line in (place / "ml-100k.item").read_text(encoding="utf-8").splitlines()[1:]:
        item, title, year, genres = line.split("\t")
        films[item] = (f"{title} ({year})", genres.replace(" ", ", "))
    rows = [line.split("\t") for line in (place / "ml-100k.inter").read_text(encoding="utf-8").splitlines()[1:]]
    users, items, _, times = map(list, zip(*rows, strict=True))
    titles, genres = zip(*(films[item] for item in items), strict=True)
    return pa.table({"user": users, "item": items, "time": [float(time) for time in times], "title": titles, "genres": genres})
