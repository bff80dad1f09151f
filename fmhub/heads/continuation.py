"""What comes next in a text: a language model's own output, its likelihood, and the text written on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, UsageError
from fmhub.task import Reads

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Continuation:
    """Softmax over the backbone's own tokens through its embedding, as it was trained; the stem is `stems.Prose`.

    A prediction is the text that follows the beginning, the likeliest token each time or, with a `temperature`, a drawn one.
    Beside it stand the likelihood of the text that was given (`nll` in nats over `tokens`, which are `bytes` long) and how many
    of its tokens were the likeliest (`hits`).
    """

    most: int = 8
    """Tokens that are written where the rest is known."""
    typed: int = 40
    """Tokens that are written where it is not, at most."""
    temperature: float = 0.0
    """0 takes the likeliest token; 1 draws by the model's own probabilities."""
    top: float = 1.0
    """Only the likeliest tokens are drawn from whose probabilities sum to this (Holtzman et al. 2019, arXiv:1904.09751)."""
    seed: int = 0
    """Of what is drawn: the same beginning is written on in the same way."""
    reads: Reads = Reads("all")

    def __post_init__(self) -> None:
        if not (self.most > 0 and self.typed > 0 and self.temperature >= 0 and 0 < self.top <= 1):
            raise UsageError("A continuation has at least one token, a temperature from 0 and a `top` above 0 and up to 1.")

    def fit(self, known: Known, recipe: Recipe) -> Continuation:
        """Nothing to learn from the rests, but they are looked at. Raises `DataError`."""
        self.targets(known.train)
        return self

    def targets(self, table: pa.Table) -> dict[str, list[str]]:
        """`rest`: what really follows. What is learnt is the stem's own text. Raises `DataError` for an empty one."""
        rests = table["target"].to_pylist()
        for name, rest in zip(table["id"].to_pylist(), rests, strict=True):
            if not isinstance(rest, str) or not rest.strip():
                raise DataError(f"Row {name}: nothing follows the beginning. A text of at least two words is needed.")
        return {"rest": rests}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """See `fmhub.heads.speaker.Speaker`. Raises `UsageError` for a backbone that reads in both directions."""
        from fmhub.heads.speaker import Speaker

        return Speaker(backbone, self)

    def loss(self, outputs: Any, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each next token, and of the end where the text was read to it."""
        return outputs.loss(recipe.label_smoothing)  # type: ignore[no-any-return]

    def decode(self, outputs: Any) -> dict[str, Any]:
        """`prediction`: texts; `nll`, `tokens`, `bytes` and `hits` of the text that was given, without its end."""
        return {**outputs.likelihood(), "prediction": outputs.written()}
