"""What follows a few tokens, counted: the language model before there were networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import UsageError
from fmhub.heads.grams import END, START, Counts, Gram

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class NGram:
    """Interpolated Kneser-Ney (1995; Chen & Goodman 1999, doi:10.1006/csla.1999.0128) over the backbone's own tokens.

    So its likelihood is of the same tokens; `order` tokens are counted together, and `written` are written. The discount is the
    one of `grid` with the best validation likelihood. The last resort is every token alike.
    """

    order: int = 3
    written: int = 8
    grid: tuple[float, ...] = (0.5, 0.75, 0.9)
    fields: tuple[str, str] = ("text", "rest")
    name: str = "n-gram"

    def fit(self, setting: Setting) -> FittedNGram:
        """Counts of the training texts. Raises `UsageError` where the run's backbone is not to be had."""
        if setting.tokenizer is None:
            raise UsageError("An n-gram baseline counts the backbone's own tokens: the setting has no tokenizer.")
        tokenizer = setting.tokenizer()
        lines = read(tokenizer, setting.train, self.fields)
        held = read(tokenizer, setting.validation, self.fields)
        counts = Counts.of(lines, self.order)
        found = [FittedNGram(self, tokenizer, counts, discount) for discount in self.grid]
        return min(found, key=lambda one: sum(one.lost(line) for line in held))


def read(tokenizer: Any, rows: pa.Table, fields: tuple[str, str]) -> list[list[int]]:
    """The tokens of every row's whole text."""
    begins, rests = (rows[name].to_pylist() for name in fields)
    tokenizer.no_truncation()
    texts = [begin + (rest or "") for begin, rest in zip(begins, rests, strict=True)]
    return [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)]


@dataclass
class FittedNGram:
    """Probabilities of the next token."""

    spec: NGram
    tokenizer: Any
    counts: Counts
    discount: float

    def probability(self, context: Gram, token: int) -> float:
        """Of `token` after the last tokens of `context`, all shorter contexts mixed in."""
        return self.counts.probability(context, token, self.discount, self.tokenizer.get_vocab_size() + 1)

    def lost(self, line: list[int]) -> float:
        """Minus the log of the probability of a text's tokens, in nats."""
        padded = (*[START] * (self.spec.order - 1), *line)
        first = self.spec.order - 1
        return -math.fsum(math.log(self.probability(padded[at - first : at], padded[at])) for at in range(first, len(padded)))

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """The columns of `heads.Continuation`; what is written are the tokens that followed most often."""
        lines = read(self.tokenizer, rows, self.spec.fields)
        texts = [begin + (rest or "") for begin, rest in zip(*(rows[name].to_pylist() for name in self.spec.fields), strict=True)]
        begins = [one.ids for one in self.tokenizer.encode_batch(rows[self.spec.fields[0]].to_pylist(), add_special_tokens=False)]
        return {
            "nll": [self.lost(line) for line in lines],
            "tokens": [len(line) for line in lines],
            "bytes": [len(text.encode()) for text in texts],
            "hits": [sum(self.next(tuple(line[:at])) == token for at, token in enumerate(line)) for line in lines],
            "prediction": [self.tokenizer.decode(self._write(begin)) for begin in begins],
        }

    def next(self, before: Gram) -> int:
        """The likeliest token (or the end) after `before`: one that followed its longest known context."""
        context = (*[START] * (self.spec.order - 1), *before)
        for length in range(self.spec.order - 1, -1, -1):
            if follow := self.counts.follow.get(context[len(context) - length :]):
                few = follow if length else dict(follow.most_common(1))
                return max(few, key=lambda token: (self.probability(context, token), -token))
        return END

    def _write(self, begin: list[int]) -> list[int]:
        words = list(begin)
        while len(words) < len(begin) + self.spec.written and (token := self.next(tuple(words))) != END:
            words.append(token)
        return words[len(begin) :]
