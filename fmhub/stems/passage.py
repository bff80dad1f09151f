"""Text with marks that are carried along, and what the nearest training texts are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.stems.marks import MARK, WORDS, marks, replaced
from fmhub.stems.text import Text
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known

UNKNOWN = ("[UNK]", "<unk>")


@dataclass(frozen=True)
class Passage:
    """One text column. Its marks (see `fmhub.stems.marks`) are read as one word each, and their characters travel in the batch.

    Its module has `nearest`, which a head may ask for the training rows whose texts are most alike.
    """

    fields: tuple[str, ...] = ("source",)
    unit: str = "tokens"
    kept: int = 48
    """Tokens of each training text that are remembered."""
    remembered: int = 0
    """Training texts; set by `fit`."""

    def fit(self, known: Known) -> Passage:
        """A copy that knows how many texts there are. Raises `DataError` for an empty one."""
        return replace(self, remembered=len(known.train))

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """As `Text`, with each mark as a word; beside it every row's marks. Raises `DataError` naming an empty or broken row.

        Rows with characters that the backbone has no token for are counted.
        """
        import numpy as np
        import pyarrow as pa

        (field,) = self.fields
        texts = checked(table, field)
        found = [marks(text) for text in texts]
        words = [f" {word} " for word in WORDS]
        read = [replaced(text, known, words) for text, known in zip(texts, found, strict=True)]
        encoded = Text(self.fields).encode(pa.table({"id": table["id"], field: read}), backbone, recipe)
        encoded.values["marks"] = found
        strange = [number for name in UNKNOWN if (number := backbone.tokenizer().token_to_id(name)) is not None]
        places = np.flatnonzero(np.isin(encoded.values["input_ids"], strange))
        encoded.strange = np.isin(np.arange(len(texts)), np.searchsorted(encoded.values["offsets"], places, "right") - 1)
        encoded.values["times"] = [[MARK.findall(text).count(mark) for mark in known] for text, known in zip(texts, found, strict=True)]
        return encoded

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """As `Text`, and int64 `marks` (rows, marks, characters), the code points of each mark, and `times` (rows, marks)
        how often it stands in the text; 0 where there is none."""
        import torch

        batch = Text(self.fields).batch(encoded, rows, random=random, strength=strength)
        found = [encoded.values["marks"][row] for row in rows]
        longest = max((len(mark) for row in found for mark in row), default=0)
        letters = torch.zeros(len(rows), max(map(len, found)), longest, dtype=torch.int64)
        times = torch.zeros(letters.shape[:2], dtype=torch.int64)
        for place, known in enumerate(found):
            times[place, : len(known)] = torch.tensor(encoded.values["times"][rows[place]], dtype=torch.int64)
            for slot, mark in enumerate(known):
                letters[place, slot, : len(mark)] = torch.tensor([ord(letter) for letter in mark])
        return {**batch, "marks": letters, "times": times}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> torch.nn.Module:
        """See `fmhub.stems.recall.Recall`."""
        from fmhub.stems.recall import Recall

        memory = Recall(self.remembered, self.kept, backbone)
        if known is not None:
            encoded = self.encode(known.train, backbone, recipe)
            memory.fill(encoded.values["input_ids"], encoded.values["offsets"])
        return memory


def checked(table: pa.Table, field: str) -> list[str]:
    """The texts of a column. Raises `DataError` for one that is empty, no text, or was decoded wrongly."""
    texts: list[Any] = table[field].to_pylist()
    for name, text in zip(table["id"].to_pylist(), texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"Row {name}: column {field!r} is empty. Fill or remove the row.")
        legible(text, f"Row {name}: column {field!r}")
    return texts


def legible(text: str, where: str) -> None:
    """Raises `DataError` for a text that was decoded wrongly, saying where and what of it."""
    if found := _WRONG.search(text):
        shown = text[max(0, found.start() - 20) : found.start() + 20]
        raise DataError(f"{where} was read in a wrong encoding ({shown!r}). Save the file as UTF-8.")


_WRONG = re.compile("\ufffd|[\x80-\x84\x86-\x9f]|Ã[\xa0-\xba\xbc-\xbf€„‡ˆ‰œŸ]|Â[\xa0«»©®°]|â€")
"""What cannot be decoded, control characters that are Windows' letters, and UTF-8 as it looks when it is read as Latin-1."""
