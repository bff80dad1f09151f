"""Text through the backbone's own tokenizer and embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from tokenizers import Tokenizer

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Text:
    """One text column, or two that are read as a pair. Augmentation masks tokens at random, at most 30 % of them."""

    fields: tuple[str, ...] = ("text",)
    unit: str = "tokens"

    def fit(self, known: Known) -> Text:
        """Nothing to learn: the vocabulary is the backbone's."""
        return self

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """Token ids of all rows in one flat array with offsets, and whether a token is the tokenizer's own."""
        import numpy as np

        tokenizer = backbone.tokenizer()
        tokenizer.no_padding()
        tokenizer.enable_truncation(min(recipe.length, backbone.max_length))
        columns = [_texts(table, name) for name in self.fields]
        encodings = tokenizer.encode_batch_fast(columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)))
        lengths = np.fromiter((len(one) for one in encodings), np.int64, len(encodings))
        names = {"input_ids": "ids", "special": "special_tokens_mask", **({"token_type_ids": "type_ids"} if len(columns) > 1 else {})}
        flat = {
            name: np.fromiter((value for one in encodings for value in getattr(one, attribute)), np.int32, int(lengths.sum()))
            for name, attribute in names.items()
        }
        values = {**flat, "offsets": np.concatenate([[0], np.cumsum(lengths)]), "mask_token": np.array(mask_token(tokenizer))}
        return Encoded(lengths, values, np.array([bool(one.overflowing) for one in encodings], bool))

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (rows, longest), int64; for pairs `token_type_ids` too."""
        import numpy as np
        import torch

        offsets, lengths = encoded.values["offsets"][rows], encoded.lengths[rows]
        columns = np.arange(int(lengths.max()))
        real = columns < lengths[:, None]
        where = np.where(real, offsets[:, None] + columns, 0)
        batch = {name: np.where(real, encoded.values[name][where], 0) for name in ("input_ids", "token_type_ids") if name in encoded.values}
        if random is not None and strength > 0:
            own = real & (encoded.values["special"][where] == 0)
            batch["input_ids"] = masked(batch["input_ids"], own, encoded.values["mask_token"], random, strength)
        batch["attention_mask"] = real
        return {name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.int64)) for name, value in batch.items()}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> None:
        """Nothing to train: the backbone embeds tokens itself."""


def mask_token(tokenizer: Tokenizer) -> int:
    """The number of what stands for a hidden token; 0 where there is no such thing."""
    return next((number for word in ("[MASK]", "<mask>", "[UNK]", "<unk>") if (number := tokenizer.token_to_id(word))), 0)


def masked(ids: np.ndarray, own: np.ndarray, token: int, random: np.random.Generator, strength: float) -> np.ndarray:
    """`ids` with at most 30 % of those hidden that are a text's `own` (bool, the same shape), at `strength` 0 to 1."""
    import numpy as np

    return np.where((random.random(ids.shape) < 0.3 * strength) & own, token, ids)


def _texts(table: pa.Table, name: str) -> list[str]:
    values: list[Any] = table.column(name).to_pylist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"Row {table.column('id')[row].as_py()}: column {name!r} holds {value!r}, not text. Fill or remove the row.")
    return values
