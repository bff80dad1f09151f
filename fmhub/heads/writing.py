"""The module of the transcription head: teacher-forced loss, and greedy or beam search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fmhub.backbones.adapter import inject
from fmhub.errors import UsageError
from fmhub.heads.generation import search
from fmhub.heads.transcription import ids
from fmhub.task import Features

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.heads.transcription import Transcription
    from fmhub.recipe import Recipe

SPARE = 8
"""Tokens that may be written however short a sound is."""


class Writing(nn.Module):
    """Around the backbone's decoder, which stays a part of the backbone: what is trained of it is listed there."""

    decoder: Any

    def __init__(self, backbone: Backbone, spec: Transcription, recipe: Recipe) -> None:
        super().__init__()
        decoder: Any = getattr(backbone.model, "decoder", None)
        if decoder is None or not getattr(backbone.model.config, "is_encoder_decoder", False):
            raise UsageError(f"Backbone {backbone.name!r} has no decoder, so that it cannot write: use one such as whisper-tiny-en.")
        if recipe.lora.layers != "head":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                inject(decoder.layers, recipe)
        self.__dict__["decoder"] = decoder  # not a child: its parameters have their names in the backbone
        self.spec, self.tokenizer = spec, backbone.tokenizer()
        self.prompt, (self.end,) = ids(backbone, spec.prompt), ids(backbone, [spec.end])
        special = {number for number, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        unwanted = {*special, *(getattr(backbone.model.config, "suppress_ids", None) or ())} - {self.end}
        count = decoder.embed_tokens.num_embeddings
        self.unwanted = torch.tensor(sorted(one for one in unwanted if one < count), dtype=torch.int64)
        self.longest = int(getattr(backbone.model.config, "max_target_positions", 0) or 512)

    def forward(self, features: Features) -> dict[str, Any]:
        """What loss and search need: the `states` (windows, positions, width), how many are of sound, and whose each window is."""
        owner = features.batch.get("owner", torch.arange(len(features.x)))
        real = torch.full((len(features.x),), features.x.shape[1]) if features.mask is None else features.mask.sum(1)
        return {"writing": self, "states": features.x, "real": real, "owner": owner.to(features.x.device)}

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., vocabulary), through the embedding of tokens, which is tied."""
        return nn.functional.linear(hidden, self.decoder.embed_tokens.weight)

    def loss(self, outputs: dict[str, Any], texts: list[str], smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Transcription.loss`."""
        states, owner = outputs["states"], outputs["owner"]
        alone = torch.bincount(owner, minlength=len(texts))[owner] == 1
        if not bool(alone.any()):
            return states.sum() * 0, torch.ones((), device=states.device)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()  # a stem of texts leaves its own behind
        encoded = self.tokenizer.encode_batch([self.spec.lead + texts[int(row)] for row in owner[alone]], add_special_tokens=False)
        room = self.longest - len(self.prompt)
        rows = [torch.tensor([*self.prompt, *one.ids[:room], self.end], device=states.device) for one in encoded]
        given = nn.utils.rnn.pad_sequence([row[:-1] for row in rows], batch_first=True, padding_value=self.end)
        wanted = nn.utils.rnn.pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=-1)
        wanted[:, : len(self.prompt) - 1] = -1
        hidden = self.decoder(input_ids=given, encoder_hidden_states=states[alone], use_cache=False).last_hidden_state
        logits = self.logits(hidden[wanted >= 0]).float()
        loss = nn.functional.cross_entropy(logits, wanted[wanted >= 0], reduction="sum", label_smoothing=smoothing)
        return loss, torch.tensor(float(len(logits)), device=states.device)

    def texts(self, outputs: dict[str, Any]) -> list[str]:
        """One text an example: its windows' texts with a space between."""
        found: list[list[str]] = [[] for _ in range(int(outputs["owner"].max()) + 1)]
        written = self.written(outputs["states"], outputs["real"])
        for owner, text in zip(outputs["owner"].tolist(), self.tokenizer.decode_batch(written), strict=True):
            found[owner].append(text.strip())
        return [" ".join(text for text in texts if text) for texts in found]

    def written(self, states: torch.Tensor, real: torch.Tensor) -> list[list[int]]:
        """The tokens of each of `states` (windows, positions, width), no more than its `real` ones (windows,) leave time to say."""
        room = [min(self.longest - len(self.prompt), SPARE + round(self.spec.share * count)) for count in real.tolist()]
        prompt = torch.tensor([self.prompt] * len(states), device=states.device)
        found = search(self._step, (states, None), prompt, end=self.end, most=max(room), beams=self.spec.beams, taken=_taken)
        return [one.tokens[:most] for one, most in zip(found, room, strict=True)]

    def _step(self, tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """See `fmhub.heads.generation.Step`; the cache is the encoder's states and transformers' own."""
        states, past = cache
        answer = self.decoder(input_ids=tokens, encoder_hidden_states=states, past_key_values=past, use_cache=True)
        likely = self.logits(answer.last_hidden_state[:, -1]).float()
        likely[:, self.unwanted.to(likely.device)] = -torch.inf
        if past is None:
            likely[:, self.end] = -torch.inf  # a text is never empty
        return likely.log_softmax(-1), (states, answer.past_key_values)


def _taken(cache: Any, rows: torch.Tensor) -> Any:
    states, past = cache
    past.reorder_cache(rows)
    return states[rows], past
