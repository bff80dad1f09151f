"""Text that is read on from its beginning: for a backbone that was trained to say what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fmhub.errors import DataError, UsageError
from fmhub.stems.passage import checked, legible
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from tokenizers import Tokenizer

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known, Splits

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
"""What stands between two texts in the training of language models; the first one that a tokenizer knows is taken."""


@dataclass(frozen=True)
class Prose:
    """A text in two columns, its beginning and the rest, read as one after the mark that stands between texts.

    What is learnt and measured is the whole; what a head writes it writes after the beginning alone. There is no augmentation:
    what is read is what is to be said.
    """

    augments: ClassVar[bool] = False
    fields: tuple[str, str] = ("text", "rest")
    unit: str = "tokens"

    def typed(self, value: Any, splits: Splits | None) -> Mapping[str, Any]:
        """A person types a beginning; a mapping may have the rest too, whose likelihood is then told."""
        given = value if isinstance(value, Mapping) else {self.fields[0]: value}
        begin, rest = (given.get(name) for name in self.fields)
        if not isinstance(begin, str) or not begin.strip() or not isinstance(rest or "", str):
            raise DataError(f"{str(value)[:40]!r} is no beginning of a text: at least one word is needed.")
        return {self.fields[0]: begin if rest else begin.rstrip(), self.fields[1]: rest or ""}

    def fit(self, known: Known) -> Prose:
        """Nothing to learn: the vocabulary is the backbone's."""
        return self

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """Token ids of all rows in one flat array with offsets; of each row how many tokens its beginning has, whether it was
        read to its end, and how many bytes of the text were read. Raises `DataError` naming a row without a beginning, or
        decoded wrongly.
        """
        import numpy as np

        tokenizer, most = backbone.tokenizer(), min(recipe.length, backbone.max_length)
        end = between(tokenizer, backbone.name)
        begins, rests = checked(table, self.fields[0]), [rest or "" for rest in table[self.fields[1]].to_pylist()]
        texts = [begin + rest for begin, rest in zip(begins, rests, strict=True)]
        for name, text in zip(table["id"].to_pylist(), texts, strict=True):
            legible(text, f"Row {name}: the text")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        whole = tokenizer.encode_batch(texts, add_special_tokens=False)
        alone = tokenizer.encode_batch(begins, add_special_tokens=False)
        kept = [[end, *one.ids[: most - 1]] for one in whole]
        lengths = np.array([len(row) for row in kept], np.int64)
        complete = np.array([len(one.ids) < most for one in whole])
        read = [text if done else text[: one.offsets[most - 2][1]] for text, one, done in zip(texts, whole, complete, strict=True)]
        values = {
            "input_ids": np.concatenate([np.array(row, np.int32) for row in kept]),
            "offsets": np.concatenate([[0], np.cumsum(lengths)]),
            "prompt": np.minimum(lengths, [1 + len(one.ids) for one in alone]),
            "complete": complete & np.array([bool(rest) for rest in rests]),
            "known": np.array([bool(rest) for rest in rests]),
            "bytes": np.array([len(text.encode()) for text in read]),
        }
        return Encoded(lengths, values, ~complete)

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """int64 `input_ids` and `attention_mask` (rows, longest), and by row `prompt`, `complete`, `known` and `bytes`."""
        import numpy as np
        import torch

        offsets, lengths = encoded.values["offsets"][rows], encoded.lengths[rows]
        columns = np.arange(int(lengths.max()))
        real = columns < lengths[:, None]
        ids = np.where(real, encoded.values["input_ids"][np.where(real, offsets[:, None] + columns, 0)], 0)
        by_row = {name: encoded.values[name][rows] for name in ("prompt", "complete", "known", "bytes")}
        arrays = {"input_ids": ids, "attention_mask": real, **by_row}
        return {name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.int64)) for name, value in arrays.items()}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> None:
        """Nothing to train: the backbone embeds tokens itself."""


def between(tokenizer: Tokenizer, name: str) -> int:
    """The number of the mark between texts. Raises `UsageError` for a backbone whose tokenizer has none."""
    found = next((number for mark in ENDS if (number := tokenizer.token_to_id(mark)) is not None), None)
    if found is None:
        raise UsageError(f"Backbone {name!r} has no mark between texts ({', '.join(ENDS)}): use a language model such as smollm2-135m.")
    return int(found)
