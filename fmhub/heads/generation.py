"""Writing token after token with any decoder that keeps a cache: greedy search, beam search over whole answers, drawing at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Cache = Any
"""Whatever a decoder keeps of what it has read: tensors whose first dimension is rows, in dicts, lists and tuples."""
Step = Callable[[torch.Tensor, Cache], tuple[torch.Tensor, Cache]]
"""(rows, n) tokens that follow those of the cache -> (rows, vocabulary) log-probabilities of the next one, and the cache."""


@dataclass(frozen=True)
class Written:
    """One answer: its tokens without the prompt and the end, and the mean log-probability of a token."""

    tokens: list[int]
    score: float


@torch.no_grad()
def search(
    step: Step, cache: Cache, prompt: torch.Tensor, *, end: int, most: int, beams: int = 1,
    taken: Callable[[Cache, torch.Tensor], Cache] | None = None,
) -> list[Written]:  # fmt: skip
    """The best answer of every row of `prompt` (rows, n), of `beams` kept side by side; 1 is greedy search.

    An answer ends with `end` or after `most` tokens. Answers of different length are compared by their mean log-probability
    (Wu et al. 2016, arXiv:1609.08144, with alpha = 1). `taken(cache, rows)` picks rows of a cache that is no plain nest of tensors.
    """
    picked, device = taken or take, prompt.device
    places = torch.arange(len(prompt), device=device)  # where the answers of those still written belong
    answers: list[Written] = [Written([], 0.0)] * len(prompt)
    logp, cache = step(prompt, cache)
    scores, last = logp.float().topk(min(beams, logp.shape[1]), dim=1)  # (rows, beams)
    kept = scores.shape[1]
    cache = picked(cache, places.repeat_interleave(kept)) if kept > 1 else cache
    words, done, lengths = last[..., None], last == end, torch.ones_like(last)
    for _ in range(most - 1):
        busy = ~done.all(1)
        if 4 * int(busy.sum()) <= 3 * len(busy):  # enough to pay for the copy
            _best(answers, places[~busy], words[~busy], scores[~busy] / lengths[~busy], end)
            left = busy.nonzero()[:, 0]
            if not len(left):
                return answers
            cache = picked(cache, (left[:, None] * kept + torch.arange(kept, device=device)).flatten())
            places, words, done, lengths, scores = (one[left] for one in (places, words, done, lengths, scores))
        logp, cache = step(words[..., -1].reshape(-1, 1), cache)
        logp = logp.float().view(len(words), kept, -1).masked_fill(done[..., None], -torch.inf)
        logp[..., end] = torch.where(done, 0.0, logp[..., end])  # a finished answer stays as it is
        total, longer = scores[..., None] + logp, lengths + (~done).long()
        ranked = (total / longer[..., None]).flatten(1)
        best = ranked.topk(kept, dim=1).indices
        source, token = best // logp.shape[2], best % logp.shape[2]
        scores, lengths = total.flatten(1).gather(1, best), longer.gather(1, source)
        done = done.gather(1, source) | (token == end)
        words = torch.cat([words.gather(1, source[..., None].expand_as(words)), token[..., None]], dim=2)
        if kept > 1:
            cache = picked(cache, (torch.arange(len(words), device=device)[:, None] * kept + source).flatten())
    _best(answers, places, words, scores / lengths, end)
    return answers


def _best(answers: list[Written], places: torch.Tensor, words: torch.Tensor, means: torch.Tensor, end: int) -> None:
    """Put the best beam of each row of `words` (rows, beams, n) at its place."""
    best = means.argmax(1)
    first = torch.arange(len(words), device=words.device)
    for place, tokens, score in zip(places.tolist(), words[first, best].tolist(), means[first, best].tolist(), strict=True):
        answers[place] = Written(tokens[: tokens.index(end)] if end in tokens else tokens, score)


@torch.no_grad()
def sample(
    step: Step, cache: Cache, prompt: torch.Tensor, *, end: int, most: int, temperature: float, top: float, keys: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Tokens drawn after every row of `prompt` (rows, n), up to `end` or `most`: probabilities to the power of 1 / `temperature`,
    of the likeliest ones that sum to `top`. `keys` seed each row on its own, so that its neighbours change nothing.
    """
    import numpy as np

    randoms = [np.random.default_rng(list(key)) for key in keys]
    words: list[list[int]] = [[] for _ in randoms]
    tokens = prompt
    for _ in range(most):
        logp, cache = step(tokens, cache)
        likely, order = (logp.float() / temperature).softmax(-1).cpu().double().sort(dim=-1, descending=True)
        likely[likely.cumsum(-1) - likely >= top] = 0  # the first one always stays
        reach = likely.cumsum(-1)
        drawn = torch.tensor([random.random() for random in randoms], dtype=torch.float64) * reach[:, -1]
        last = order.gather(1, torch.searchsorted(reach, drawn[:, None], right=True).clamp(max=order.shape[1] - 1))
        for row, token in zip(words, last.flatten().tolist(), strict=True):
            if end not in row:
                row.append(token)
        if all(end in row for row in words):
            break
        tokens = last.to(prompt.device)
    return [row[: row.index(end)] if end in row else row for row in words]


def take(cache: Cache, rows: torch.Tensor) -> Cache:
    """The given rows of every tensor of a nest."""
    if isinstance(cache, torch.Tensor):
        return cache.index_select(0, rows)
    if isinstance(cache, dict):
        return {name: take(value, rows) for name, value in cache.items()}
    if isinstance(cache, list | tuple):
        return type(cache)(take(value, rows) for value in cache)
    return cache
