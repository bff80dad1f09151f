"""A question and the passage that its answer is looked for in, read as a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.stems.passage import checked
from fmhub.stems.text import mask_token, masked
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Excerpt:
    """Two columns of text. Where both are longer than what is read, the passage is cut at its end. Augmentation masks as `Text` does."""

    fields: tuple[str, str] = ("question", "passage")
    unit: str = "tokens"

    def fit(self, known: Known) -> Excerpt:
        """Nothing to learn: the vocabulary is the backbone's."""
        return self

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """Token ids of all pairs in flat arrays with offsets, and of each token of a passage where its characters begin and end
        (-1: it is none). Raises `DataError` naming an empty row, or one whose question leaves no room for its passage.
        """
        import numpy as np

        questions, passages = (checked(table, name) for name in self.fields)
        tokenizer, most = backbone.tokenizer(), min(recipe.length, backbone.max_length)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        fixed = tokenizer.num_special_tokens_to_add(True)
        for name, one in zip(table["id"].to_pylist(), tokenizer.encode_batch(questions, add_special_tokens=False), strict=True):
            if len(one) + fixed >= most:
                raise DataError(f"Row {name}: the question has {len(one)} tokens, which leaves no room for the passage (recipe.length).")
        tokenizer.enable_truncation(most, strategy="only_second")
        found = tokenizer.encode_batch(list(zip(questions, passages, strict=True)))
        tokenizer.no_truncation()
        places = [place if side == 1 else (-1, -1) for one in found for place, side in zip(one.offsets, one.sequence_ids, strict=True)]
        lengths = np.array([len(one) for one in found], np.int64)
        values = {
            "input_ids": np.array([number for one in found for number in one.ids], np.int32),
            "token_type_ids": np.array([number for one in found for number in one.type_ids], np.int32),
            "starts": np.array([start for start, _ in places], np.int32),
            "ends": np.array([end for _, end in places], np.int32),
            "special": np.array([one for row in found for one in row.special_tokens_mask], np.int32),
            "mask_token": np.array(mask_token(tokenizer)),
            "offsets": np.concatenate([[0], np.cumsum(lengths)]),
            "passages": passages,
        }
        return Encoded(lengths, values, np.array([bool(one.overflowing) for one in found], bool))

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """int64 (rows, longest) `input_ids`, `attention_mask`, `token_type_ids`, `starts` and `ends` (-1 where no token of the passage
        is), and `letters` (rows, characters), the code points of each passage as far as it was read.
        """
        import numpy as np
        import torch

        offsets, lengths = encoded.values["offsets"][rows], encoded.lengths[rows]
        columns = np.arange(int(lengths.max()))
        real = columns < lengths[:, None]
        where = np.where(real, offsets[:, None] + columns, 0)
        empty = {"input_ids": 0, "token_type_ids": 0, "starts": -1, "ends": -1}
        batch: dict[str, Any] = {name: np.where(real, encoded.values[name][where], value) for name, value in empty.items()}
        if random is not None and strength > 0:
            own = real & (encoded.values["special"][where] == 0)
            batch["input_ids"] = masked(batch["input_ids"], own, encoded.values["mask_token"], random, strength)
        read = batch["ends"].max(1)
        letters = np.zeros((len(rows), max(1, int(read.max()))), np.int64)
        for line, row, count in zip(letters, rows, read, strict=True):
            line[: max(0, count)] = [ord(letter) for letter in encoded.values["passages"][row][: max(0, count)]]
        batch |= {"attention_mask": real, "letters": letters}
        return {name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.int64)) for name, value in batch.items()}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> None:
        """Nothing to train: the backbone embeds tokens itself."""
