"""What is said, written down: the text of a sound, by the backbone's own decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fmhub.errors import DataError, UsageError
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Encoded, Known


@dataclass(frozen=True)
class Transcription:
    """A target and a prediction are texts, written token by token by the decoder of an encoder-decoder backbone.

    Trained on the true text so far (teacher forcing), decoded greedily or with `beams`. Where the stem makes several windows
    of an example (`windows` of its values, `owner` in its batch), each is written on its own and the texts are joined; nothing
    is learnt from such an example, since nobody says which window holds which words.
    """

    prompt: Sequence[str] = ("<|startoftranscript|>", "<|notimestamps|>")
    """Tokens that every text begins with (for a backbone of many languages they name one); they are neither learnt nor shown."""
    end: str = "<|endoftext|>"
    lead: str = " "
    """What stands before the first word in the tokenizer's own texts."""
    beams: int = 1
    share: float = 0.2
    """Tokens that are written for each of the encoder's states of sound, at most, beyond 8: ten a second of Whisper's."""
    script: str = ""
    """The alphabet of most letters of every target, as Unicode names it (LATIN, CYRILLIC); empty for any."""
    reads: Reads = Reads("all")
    merges: ClassVar[bool] = True
    """A text is many small steps: with the adapter beside the weights a second of speech costs a quarter more."""

    def fit(self, known: Known, recipe: Recipe) -> Transcription:
        """Nothing to learn from the texts, but they are looked at. Raises `DataError`."""
        self.targets(known.train)
        return self

    def targets(self, table: pa.Table) -> dict[str, list[str]]:
        """`text`: with white space folded. Raises `DataError` for one that is empty or in another alphabet."""
        texts = []
        for name, value in zip(table.column("id").to_pylist(), table.column("target").to_pylist(), strict=True):
            if not isinstance(value, str) or not value.strip():
                raise DataError(f"Row {name}: the transcript is {value!r}: a text is needed.")
            texts.append(" ".join(value.split()))
            if self.script and (strange := _strange(texts[-1], self.script)):
                raise DataError(
                    f"Row {name}: {texts[-1][:40]!r} is written in {strange.title()} letters; this task writes {self.script.title()} ones."
                )
        return {"text": texts}

    def learnable(self, encoded: Encoded) -> np.ndarray:
        """(rows,) bool: which examples are one window, so that all of their words are in it."""
        import numpy as np

        windows = encoded.values.get("windows") if isinstance(encoded.values, dict) else None
        return np.ones(len(encoded.lengths), bool) if windows is None else np.diff(windows) == 1

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """The backbone's decoder, in which every layer gets the recipe's adapter; see `fmhub.heads.writing.Writing`."""
        from fmhub.heads.writing import Writing

        return Writing(backbone, self, recipe)

    def loss(self, outputs: dict[str, Any], targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of the true tokens, summed, and how many there are (1 where nothing can be learnt from)."""
        return outputs["writing"].loss(outputs, targets["text"], recipe.label_smoothing)  # type: ignore[no-any-return]

    def decode(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """`prediction`: texts, without special tokens."""
        return {"prediction": outputs["writing"].texts(outputs)}


def _strange(text: str, script: str) -> str:
    """The alphabet of a text of whose letters less than half are of `script`; empty where that is not so."""
    import unicodedata
    from collections import Counter

    scripts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in text if letter.isalpha())
    return "" if not scripts or 2 * scripts[script] >= scripts.total() else scripts.most_common(1)[0][0]


def ids(backbone: Backbone, tokens: Sequence[str]) -> list[int]:
    """Numbers of special tokens. Raises `UsageError` for one that the backbone's tokenizer lacks."""
    tokenizer = backbone.tokenizer()
    found = []
    for token in tokens:
        number = tokenizer.token_to_id(token)
        if number is None:
            raise UsageError(f"Backbone {backbone.name!r} has no token {token!r}: use another backbone or prompt.")
        found.append(number)
    return found
