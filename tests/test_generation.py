"""Search: greedy takes the best token, beams find an answer that greedy misses, and caches follow their beams."""

from __future__ import annotations

import itertools

import pytest
import torch

from fmhub.heads.generation import search, take

END = 0


def model(seed: int, vocabulary: int = 5):
    """Log-probabilities that depend on all tokens read so far; the cache holds those tokens."""

    def logp(history: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, *history)) % (1 << 31))
        return (3 * torch.randn(vocabulary, generator=generator)).log_softmax(-1)

    def step(tokens, cache):
        cache = {"read": torch.cat([cache["read"], tokens], dim=1)}
        return torch.stack([logp(tuple(row)) for row in cache["read"].tolist()]), cache

    return logp, step


def start(rows: int):
    return {"read": torch.zeros(rows, 0, dtype=torch.int64)}, torch.arange(1, rows + 1)[:, None]


def mean(logp, prompt: int, answer: tuple[int, ...]) -> float:
    history, total = (prompt,), 0.0
    for token in answer:
        total += float(logp(history)[token])
        history += (token,)
    return total / len(answer)


def test_greedy_takes_the_best_token_every_time():
    logp, step = model(1)
    for row, found in enumerate(search(step, *start(3), end=END, most=6), 1):
        history = (row,)
        for token in found.tokens:
            assert token == int(logp(history).argmax()) != END
            history += (token,)
        assert len(found.tokens) == 6 or int(logp(history).argmax()) == END


@pytest.mark.parametrize("seed", range(5))
def test_beams_score_their_answer_and_are_no_worse_than_greedy(seed):
    logp, step = model(seed, vocabulary=3)
    best = search(step, *start(2), end=END, most=3, beams=3**3)
    greedy = search(step, *start(2), end=END, most=3)
    for row, found in enumerate(best, 1):
        every = [answer for n in (1, 2, 3) for answer in itertools.product(range(3), repeat=n)]
        ended = [answer for answer in every if END not in answer[:-1] and (answer[-1] == END or len(answer) == 3)]
        assert found.score >= greedy[row - 1].score - 1e-6
        whole = (*found.tokens, END) if (*found.tokens, END) in ended and len(found.tokens) < 3 else tuple(found.tokens)
        assert mean(logp, row, whole) == pytest.approx(found.score, abs=1e-5)
        assert found.score >= max(mean(logp, row, answer) for answer in ended if len(answer) == 1) - 1e-5


@pytest.mark.parametrize("beams", [1, 2])
def test_a_row_does_not_depend_on_its_neighbours_and_costs_nothing_once_it_ended(beams):
    _, step = model(3)
    widths = []

    def counted(tokens, cache):
        widths.append(len(tokens))
        return step(tokens, cache)

    together = search(counted, *start(12), end=END, most=9, beams=beams)
    assert widths == [12, *sorted(widths[1:], reverse=True)] and widths[-1] <= 6 * beams < widths[1]
    for row in range(12):
        cache, prompt = start(12)
        alone = search(step, take(cache, torch.tensor([row])), prompt[row : row + 1], end=END, most=9, beams=beams)
        assert alone[0] == together[row]


def test_rows_are_taken_of_every_tensor_of_a_nest():
    nest = {"a": torch.arange(3), "b": [(torch.arange(6).view(3, 2), 7)]}
    found = take(nest, torch.tensor([2, 0]))
    assert found["a"].tolist() == [2, 0] and found["b"][0][0].tolist() == [[4, 5], [0, 1]] and found["b"][0][1] == 7
