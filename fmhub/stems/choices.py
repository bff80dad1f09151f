"""A question and the answers that are offered to it, each read by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmhub.errors import DataError
from fmhub.stems.passage import checked
from fmhub.stems.text import Text
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known

SHOWN = 240
"""Characters of an answer that are shown."""


@dataclass(frozen=True)
class Choices:
    """A column of questions and a column of lists of texts; a row becomes as many rows of the backbone's input as it has texts."""

    fields: tuple[str, str] = ("question", "candidates")
    unit: str = "tokens"

    def fit(self, known: Known) -> Choices:
        """Nothing to learn: the vocabulary is the backbone's."""
        return self

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """As `Text` for all texts one after another; `first` is where a row's begin, its question. A row is as long as its texts
        are with padding. Raises `DataError` naming a row with an empty text, or with less than two different answers.
        """
        import numpy as np
        import pyarrow as pa

        questions, offered = checked(table, self.fields[0]), table[self.fields[1]].to_pylist()
        names = table["id"].to_pylist()
        for name, texts in zip(names, offered, strict=True):
            if not isinstance(texts, list) or len(texts) < 2 or len(set(map(str, texts))) < len(texts):
                raise DataError(f"Row {name}: {self.fields[1]} must be a list of at least two different answers.")
        texts = [text for question, answers in zip(questions, offered, strict=True) for text in (question, *answers)]
        owners = [name for name, answers in zip(names, offered, strict=True) for _ in range(1 + len(answers))]
        flat = pa.table({"id": owners, "text": pa.array([text if isinstance(text, str) else str(text) for text in texts])})
        checked(flat.rename_columns(["id", self.fields[1]]), self.fields[1])
        whole = Text().encode(flat, backbone, recipe)
        counts = np.array([1 + len(answers) for answers in offered], np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])
        longest = np.maximum.reduceat(whole.lengths, first[:-1])
        cut = _cut(texts, first, backbone, recipe) if whole.truncated else None
        return Encoded(counts * longest, {"whole": whole, "first": first, "texts": texts}, cut)

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (texts, longest), and of each text `owner`, its row in the batch, `place`, its number among
        the row's answers (-1: the question), and `letters` (texts, characters), its code points.
        """
        import numpy as np
        import torch

        first = encoded.values["first"]
        at = np.concatenate([np.arange(first[row], first[row + 1]) for row in rows])
        batch = Text().batch(encoded.values["whole"], at, random=random, strength=strength)
        counts = first[rows + 1] - first[rows]
        batch["owner"] = torch.from_numpy(np.repeat(np.arange(len(rows)), counts))
        batch["place"] = torch.from_numpy(np.concatenate([np.arange(count) - 1 for count in counts]))
        shown = [[ord(letter) for letter in encoded.values["texts"][one][:SHOWN]] for one in at]
        letters = np.zeros((len(at), max(map(len, shown))), np.int64)
        for row, text in zip(letters, shown, strict=True):
            row[: len(text)] = text
        return {**batch, "letters": torch.from_numpy(letters)}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> None:
        """Nothing to train: the backbone embeds tokens itself."""


def _cut(texts: list[str], first: np.ndarray, backbone: Backbone, recipe: Recipe) -> np.ndarray:
    """(rows,) bool: which have a text that is longer than what is read of it."""
    import numpy as np

    tokenizer = backbone.tokenizer()
    tokenizer.no_truncation()
    longer = [len(one) > min(recipe.length, backbone.max_length) for one in tokenizer.encode_batch_fast(texts)]
    return np.logical_or.reduceat(np.array(longer, bool), first[:-1])
