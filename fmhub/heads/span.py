"""A part of a passage: where an answer begins and where it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Span:
    """Two softmaxes over the tokens of the passage, as for SQuAD (Devlin et al. 2018, arXiv:1810.04805). The stem is `stems.Excerpt`.

    A target is a list of answers that count as right, of which the first is learnt, at the character that column `start` says or
    else where it first stands; what does not stand in the part of the passage that is read teaches nothing. A prediction is a text.
    """

    passage: str = "passage"
    start: str = "start"
    longest: int = 30
    """Tokens of an answer, at most."""
    reads: Reads = Reads("all")

    def fit(self, known: Known, recipe: Recipe) -> Span:
        """Nothing to learn from the targets, but they are looked at. Raises `DataError`."""
        self.targets(known.train)
        return self

    def targets(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`span`: int64 (n, 2), the first character of the answer and the one after its last; -1 where it does not stand there."""
        import numpy as np

        starts = table[self.start].to_pylist() if self.start in table.column_names else [None] * len(table)
        spans = []
        for name, passage, answers, start in zip(
            *(table[column].to_pylist() for column in ("id", self.passage, "target")), starts, strict=True
        ):
            if not isinstance(answers, list) or not answers or not all(isinstance(one, str) and one.strip() for one in answers):
                raise DataError(f"Row {name}: the target is {answers!r}; it must be a list of at least one answer.")
            first = answers[0]
            at = start if start is not None and passage[start : start + len(first)] == first else passage.find(first)
            spans.append((at, at + len(first)) if at >= 0 else (-1, -1))
        return {"span": np.array(spans, np.int64)}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """(examples, tokens, width) -> scores of each token as the first and the last one."""
        from fmhub.heads.ends import Ends

        return Ends(backbone.width, recipe.dropout, self.longest)

    def loss(self, outputs: Any, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of the first and of the last token, each counting a half."""
        return outputs.loss(targets["span"], recipe.label_smoothing)  # type: ignore[no-any-return]

    def decode(self, outputs: Any) -> dict[str, Any]:
        """`prediction`: texts; `confidence`: the probability of both ends, 0 to 1."""
        return outputs.best()  # type: ignore[no-any-return]
