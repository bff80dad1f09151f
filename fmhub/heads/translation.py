"""Text as an answer: translation, and whatever else writes a line for a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.heads.translator import Draft
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Translation:
    """A decoder of `depth` layers that start as copies of the backbone's last ones, and a vocabulary learnt from the training targets.

    With a stem that remembers (`stems.Passage`) it is shown a draft, put together from phrases of the training pairs, and the
    answers of the nearest ones, and may copy from them; training begins where the draft is written as it is. A training example's
    own draft and neighbours are made without it and its `group`. Marks of the input are written exactly as often as they stand
    there. A prediction is a text.
    """

    source: str = "source"
    """Column that the stem reads, whose marks stand in the targets too."""
    pieces: int = 4000
    """Size of the vocabulary, at most."""
    depth: int = 2
    longest: int = 96
    """Pieces of one answer; training targets that are longer are read so far."""
    shown: int = 1
    """Nearest training examples whose answers are shown beside the draft."""
    kept: int = 48
    """Pieces of each training answer that are remembered."""
    offered: int = 8
    """Pieces that the lexicon has for one token of the input."""
    beams: int = 4
    language: str = ""
    """Of the answers, for a backbone that must be asked for one (`fr`, `de`, `es`, `zh`)."""
    reads: Reads = Reads("all")
    vocabulary: str = ""
    """The tokenizer's json; set by `fit`."""
    answers: Sequence[np.ndarray] | None = field(default=None, repr=False, compare=False, metadata={"stored": False})
    """Pieces of the training targets, for `build` to remember; set by `fit`, and in the adapter's file afterwards."""
    groups: Sequence[int] | None = field(default=None, repr=False, compare=False, metadata={"stored": False})
    """The number of each training row's group; as `answers`."""

    def fit(self, known: Known, recipe: Recipe) -> Translation:
        """A copy with its vocabulary and the training answers. Raises `DataError` for an empty or broken target."""
        from fmhub.heads.pieces import learn

        fitted = replace(self, vocabulary=learn(self._texts(known.train), self.pieces))
        names = known.train["group" if "group" in known.train.column_names else "id"].to_pylist()
        number = {name: place for place, name in enumerate(dict.fromkeys(names))}
        return replace(fitted, answers=fitted.targets(known.train)["pieces"], groups=[number[name] for name in names])

    def targets(self, table: pa.Table) -> dict[str, list[Any]]:
        """`pieces`: int64 (n,) an example, the end among them where it is reached; `text`: the same as text, marks as slots."""
        import numpy as np

        from fmhub.heads.pieces import END, Pieces

        texts = self._texts(table)
        return {"pieces": [np.array([*row, END][: self.longest], np.int64) for row in Pieces(self.vocabulary).read(texts)], "text": texts}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """See `fmhub.heads.translator.Translator`; a backbone with a decoder of its own writes with that one, see `fmhub.heads.native`."""
        if getattr(backbone.model.config, "is_encoder_decoder", False):
            from fmhub.heads.native import Native

            return Native(backbone, self, recipe)
        from fmhub.heads.translator import Translator

        return Translator(backbone, stem, self, recipe)

    def loss(self, outputs: Draft, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each next piece, the true ones before it given."""
        return outputs.translator.told(outputs, targets[outputs.translator.truth], recipe.label_smoothing)  # type: ignore[no-any-return]

    def decode(self, outputs: Draft) -> dict[str, Any]:
        """`prediction`: texts; `confidence`: the mean probability of a piece (geometric), 0 to 1."""
        import math

        from fmhub.stems.marks import copied

        written = outputs.translator.written(outputs)
        marks = copied(outputs.batch) if "marks" in outputs.batch else [[] for _ in written]
        texts = [outputs.translator.pieces.write(one.tokens, known) for one, known in zip(written, marks, strict=True)]
        return {"prediction": texts, "confidence": [math.exp(one.score) for one in written]}

    def _texts(self, table: pa.Table) -> list[str]:
        """Targets with the marks of their source as slots."""
        from fmhub.heads.pieces import SLOTS
        from fmhub.stems.marks import marks, replaced
        from fmhub.stems.passage import legible

        texts = []
        for name, source, target in zip(*(table[column].to_pylist() for column in ("id", self.source, "target")), strict=True):
            if not isinstance(target, str) or not target.strip():
                raise DataError(f"Row {name}: the target is empty. Fill or remove the row.")
            legible(target, f"Row {name}: the target")
            texts.append(replaced(target, marks(source or ""), list(SLOTS)))
        return texts
