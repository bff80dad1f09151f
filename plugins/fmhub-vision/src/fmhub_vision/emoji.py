"""Emoji in two styles of drawing (Twitter's and Google's), with the category that Unicode puts them in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, File, Npm

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = (
    "Activities", "Animals & Nature", "Flags", "Food & Drink", "Objects", "People & Body", "Smileys & Emotion", "Symbols",
    "Travel & Places",
)  # fmt: skip
STYLES = {
    "twitter": Artifact(
        name="emoji-twitter",
        files=(File("emoji.tgz", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877", 61_683_754, member="*"),),
        sources=(Npm("emoji-datasource-twitter@16.0.0"),),
    ),
    "google": Artifact(
        name="emoji-google",
        files=(File("emoji.tgz", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438", 74_344_091, member="*"),),
        sources=(Npm("emoji-datasource-google@16.0.0"),),
    ),
}
PERSON = {"1F468", "1F469", "1F9D1", "2640", "2642", "FE0F", "200D"}
"""Man, woman, person, the two gender signs and joiners: what variants of one motif differ in."""


def pictures() -> dict[str, pa.Table]:
    """Twitter's drawings in train and test, and as `shift:google` Google's drawings of the test part's emoji.

    Skin tones are left out. Emoji of one motif (man, woman and person doing the same) share a group.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from fmhub.data.parts import divide

    twitter = pa.Table.from_pylist(_read("twitter"))
    parts = divide(twitter, {"train": 0.75, "test": 0.25}, ("image",), stratify=True, seed=0)
    google = pa.Table.from_pylist(_read("google"))
    shifted = google.filter(pc.is_in(google["group"], pc.unique(parts["test"]["group"])))
    # the same motif in test and in shift is wanted; a group of its own name says that it crosses nothing
    shifted = shifted.set_column(shifted.column_names.index("group"), "group", pc.binary_join_element_wise("google", shifted["group"], " "))
    return {**parts, "shift:google": shifted}


def _read(style: str) -> list[dict[str, Any]]:
    """Rows of one style: id, image (the bytes of a PNG of 64 x 64 pixels), target, group."""
    from fmhub.artifacts import fetch, members

    archive = fetch(STYLES[style]) / "emoji.tgz"
    entries = json.loads(next(content for _, content in members(archive, "package/emoji.json")))
    folder = f"package/img/{style}/64/"
    found = dict(members(archive, folder, ".png"))
    return [
        {"id": entry["short_name"], "image": found[folder + entry["image"]], "target": entry["category"], "group": motif(entry["unified"])}
        for entry in sorted(entries, key=lambda entry: str(entry["sort_order"]).zfill(5))
        if entry["category"] in LABELS and folder + entry["image"] in found
    ]


def motif(code: str) -> str:
    """An emoji's code points without those that only say who: `1F9D1-200D-1F692` (firefighter) -> `1F692`."""
    kept = [point for point in code.split("-") if point not in PERSON and not "1F3FB" <= point <= "1F3FF"]
    return "-".join(kept) or code
