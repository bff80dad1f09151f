"""The module of the continuation head: next tokens by the tied embedding, and writing on with the backbone's own cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fmhub.backbones.structure import causal
from fmhub.errors import UsageError
from fmhub.heads.generation import sample, search
from fmhub.stems.prose import between
from fmhub.task import Features

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.heads.continuation import Continuation

CHUNK = 512
"""Tokens whose probabilities of all others are held at once."""


class Speaker(nn.Module):
    """Around the backbone, which stays the run's own: the head has nothing of its own to train."""

    model: Any

    def __init__(self, backbone: Backbone, spec: Continuation) -> None:
        super().__init__()
        if not causal(backbone.model):
            raise UsageError(f"Backbone {backbone.name!r} does not say what comes next: use a language model such as smollm2-135m.")
        if not getattr(backbone.model.config, "tie_word_embeddings", False) or getattr(
            backbone.model.config, "final_logit_softcapping", None
        ):
            raise UsageError(f"Backbone {backbone.name!r} tells tokens by a layer of its own, which fmhub does not read: use another.")
        self.__dict__["model"] = backbone.model  # not a child: its parameters have their names in the backbone
        self.spec, self.tokenizer = spec, backbone.tokenizer()
        self.end, self.longest = between(self.tokenizer, backbone.name), backbone.max_length
        special = {number for number, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        self.unwanted = torch.tensor(sorted(special - {self.end}), dtype=torch.int64)

    def forward(self, features: Features) -> Said:
        """(examples, tokens, width) -> what loss and decoding need, computed when it is asked for."""
        return Said(self, features)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., vocabulary), through the embedding of tokens, which is tied."""
        return nn.functional.linear(hidden, self.model.get_input_embeddings().weight).float()

    def step(self, tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """See `fmhub.heads.generation.Step`; the cache is the mask of what was read and transformers' own."""
        mask, past = cache
        if past is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), tokens.shape[1])], dim=1)
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        answer = self.model(input_ids=tokens, attention_mask=mask, position_ids=places, past_key_values=past, use_cache=True)
        likely = self.logits(answer.last_hidden_state[:, -1])
        likely[:, self.unwanted.to(likely.device)] = -torch.inf
        return likely.log_softmax(-1), (mask, answer.past_key_values)


@dataclass(frozen=True)
class Said:
    """One batch: the backbone's states of every token, from which the next one is told."""

    speaker: Speaker
    features: Features

    def loss(self, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Continuation.loss`."""
        wanted, end = self._wanted(), self.features.batch["attention_mask"].sum(1) - 1
        rows = torch.arange(len(wanted), device=wanted.device)
        wanted[rows, end] = torch.where(self.features.batch["complete"].bool(), self.speaker.end, -1)
        logits = self.speaker.logits(self.features.x[wanted >= 0])
        lost = nn.functional.cross_entropy(logits, wanted[wanted >= 0], reduction="sum", label_smoothing=smoothing)
        return lost, torch.tensor(float(len(logits)), device=lost.device)

    @torch.no_grad()
    def likelihood(self) -> dict[str, list[Any]]:
        """`nll` (float64), `tokens`, `bytes` and `hits` of every row."""
        wanted = self._wanted()
        owner, place = torch.nonzero(wanted >= 0, as_tuple=True)
        lost = torch.zeros(len(wanted), dtype=torch.float64, device=wanted.device)
        hits = torch.zeros(len(wanted), dtype=torch.int64, device=wanted.device)
        for some in torch.split(torch.arange(len(owner), device=wanted.device), CHUNK):
            logits, true = self.speaker.logits(self.features.x[owner[some], place[some]]), wanted[owner[some], place[some]]
            lost.index_add_(0, owner[some], nn.functional.cross_entropy(logits, true, reduction="none").double())
            hits.index_add_(0, owner[some], (logits.argmax(-1) == true).long())
        counts = {"tokens": (wanted >= 0).sum(1), "bytes": self.features.batch["bytes"], "hits": hits}
        return {"nll": lost.tolist(), **{name: values.tolist() for name, values in counts.items()}}

    @torch.no_grad()
    def written(self) -> list[str]:
        """What follows each beginning, without special tokens."""
        batch, spec, found = self.features.batch, self.speaker.spec, [""] * len(self.features.x)
        for known, most in ((1, spec.most), (0, spec.typed)):
            rows = torch.nonzero(batch["known"] == known).flatten()
            room = self.speaker.longest - int(batch["prompt"].max())
            if len(rows) and room > 0:
                for row, text in zip(rows.tolist(), self._write(rows, min(most, room)), strict=True):
                    found[row] = text
        return found

    def _write(self, rows: torch.Tensor, most: int) -> list[str]:
        """Beginnings of any length side by side, the shorter ones padded on the left."""
        batch, spec, speaker = self.features.batch, self.speaker.spec, self.speaker
        counts = batch["prompt"][rows]
        width = int(counts.max())
        places = torch.arange(width, device=rows.device) - (width - counts)[:, None]
        mask = (places >= 0).long()
        prompt = batch["input_ids"][rows].gather(1, places.clamp(min=0)) * mask
        start = (mask, None)
        if spec.temperature:
            keys = [(spec.seed, *row[kept.bool()].tolist()) for row, kept in zip(prompt, mask, strict=True)]
            tokens = sample(speaker.step, start, prompt, end=speaker.end, most=most, temperature=spec.temperature, top=spec.top, keys=keys)
        else:
            tokens = [one.tokens for one in search(speaker.step, start, prompt, end=speaker.end, most=most, taken=_taken)]
        return [str(text) for text in speaker.tokenizer.decode_batch(tokens)]

    def _wanted(self) -> torch.Tensor:
        """(rows, tokens) int64: the token after each, -1 after the last and at padding."""
        ids, mask = self.features.batch["input_ids"], self.features.batch["attention_mask"].bool()
        return nn.functional.pad(ids.masked_fill(~mask, -1)[:, 1:], (0, 1), value=-1)


def _taken(cache: Any, rows: torch.Tensor) -> Any:
    """See `fmhub.heads.generation.search`: the mask, and transformers' own cache."""
    mask, past = cache
    if past is not None:
        past.reorder_cache(rows)
    return mask[rows], past
