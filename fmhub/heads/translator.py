"""The decoder of the translation head: what it may write next, from its own vocabulary and from what it is offered.

Its probability of a piece is a mixture (pointer-generator: See et al. 2017, arXiv:1704.04368) of its tied output layer, of
a lexicon read where it attends to the input (Arthur et al. 2016, arXiv:1606.02006), and of copying from the answers of the
nearest training examples (Gu et al. 2018, arXiv:1705.07267).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fmhub.heads import lexicon
from fmhub.heads.decoder import DecoderLayer
from fmhub.heads.generation import Cache, Written, search
from fmhub.heads.pieces import END, FIRST, PAD, SLOTS, START, Pieces
from fmhub.task import Features

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.heads.translation import Translation
    from fmhub.recipe import Recipe


@dataclass
class Draft:
    """What the head's module gives: itself and what it knows of a batch; loss and decoding go on from there."""

    translator: Any
    context: Cache
    batch: Any


class Translator(nn.Module):
    """Decoder, tied output layer, pointers, and the remembered answers (`answers`, rows as the stem's `keys`) and lexicon."""

    truth = "pieces"
    """The head's target that it learns from."""
    stem: Any
    layers: Any
    pointers: Any
    answers: torch.Tensor
    found: torch.Tensor
    shares: torch.Tensor

    def __init__(self, backbone: Backbone, stem: Any, head: Translation, recipe: Recipe) -> None:
        super().__init__()
        width, structure = backbone.width, backbone.structure
        self.pieces = Pieces(head.vocabulary)
        self.head = head
        self.embedding = nn.Embedding(self.pieces.size, width)
        self.positions = nn.Embedding(head.longest + 1, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(DecoderLayer(width, layer, recipe.dropout) for layer in structure.layers[-head.depth :])
        self.turn = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(self.pieces.size))
        self.dropout = nn.Dropout(recipe.dropout)
        self.recalls = hasattr(stem, "nearest")
        if self.recalls:
            self.__dict__["stem"] = stem  # shared, not owned
            self._offer(backbone, width)
        _warm(self, backbone)

    def _offer(self, backbone: Backbone, width: int) -> None:
        head, memory = self.head, self.stem.keys
        self.pointers = nn.ModuleList(nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(2))
        self.gate = nn.Linear(width, 3)
        nn.init.zeros_(self.gate.weight)
        self.rank = nn.Embedding(head.shown, width)
        self.likeness = nn.Linear(1, width)
        self.near = nn.Conv1d(width, width, 3, padding=1)
        self.blend = nn.LayerNorm(width)
        for layer in (self.rank, self.likeness, self.near):
            nn.init.normal_(layer.weight, std=0.02)
        words = backbone.model.get_input_embeddings().num_embeddings
        answers = torch.zeros(len(memory), head.kept, dtype=torch.int32)
        found, shares = np.zeros((words, head.offered), np.int32), np.zeros((words, head.offered), np.float32)
        if head.answers is not None:
            for row, answer in enumerate(head.answers):
                answers[row, : len(answer)] = torch.from_numpy(answer[: head.kept].astype(np.int32))
            sources = [row[row > 0] for row in memory.cpu().numpy()]
            found, shares = lexicon.learn(sources, head.answers, words, head.offered)
        self.register_buffer("answers", answers)
        self.register_buffer("found", torch.from_numpy(found))
        self.register_buffer("shares", torch.from_numpy(shares))

    def forward(self, features: Features) -> Draft:
        states, mask, batch = features.x, features.mask, features.batch
        assert mask is not None
        offers, seen, real = [], states, mask
        if self.recalls:
            ids = batch["input_ids"]
            offers.append(self._offered(0, states, mask, self.found[ids].long(), self.shares[ids]))
            memory, known, pieces = self._remembered(batch)
            offers.append(self._offered(1, memory, known, pieces[..., None], torch.ones_like(pieces, dtype=states.dtype)[..., None]))
            seen, real = torch.cat([states, memory], 1), torch.cat([mask, known], 1)
        bias = torch.zeros_like(real, dtype=states.dtype).masked_fill(~real, -1e9)[:, None, None]
        across = [layer.across.known(seen) for layer in self.layers]
        times = (
            functional.pad(batch["times"], (0, len(SLOTS)))[:, : len(SLOTS)]
            if "times" in batch
            else states.new_zeros(len(states), len(SLOTS))
        )
        return Draft(self, {"across": across, "mask": bias, "offers": offers, "left": times, "past": None, "at": 0}, batch)

    def _remembered(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(rows, pieces, width) states of the nearest examples' answers one after another, which are real, and the pieces."""
        rows, alike = self.stem.nearest(batch, self.head.shown)
        pieces = self.answers[rows].long()  # (rows, shown, kept)
        pieces = pieces[..., : max(1, int((pieces > 0).sum(-1).max()))]
        count, length = pieces.shape[1:]
        state = self.embedding(pieces) + self.positions.weight[:length] + self.rank.weight[:count, None]
        state = (state + self.likeness(alike[..., None])[:, :, None]).flatten(1, 2)
        state = self.blend(state + self.near(state.transpose(1, 2)).transpose(1, 2))
        flat = pieces.flatten(1)
        real = (flat > 0) & (alike.repeat_interleave(length, 1) > 0)
        real[:, 0] = True  # softmax needs one
        return state, real, flat

    def _offered(self, which: int, states: torch.Tensor, mask: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> Cache:
        return {"keys": self.pointers[which][1](states), "mask": mask, "ids": ids, "weights": weights}

    def _states(self, tokens: torch.Tensor, context: Cache) -> tuple[torch.Tensor, Cache]:
        at = context["at"]
        x = self.embedding(tokens) + self.positions.weight[at : at + tokens.shape[1]]
        x = self.dropout(self.norm(x))
        past = []
        for place, layer in enumerate(self.layers):
            x, kept = layer(x, context["past"] and context["past"][place], context["across"][place], context["mask"])
            past.append(kept)
        return x, {**context, "past": past, "at": at + tokens.shape[1]}

    def _own(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.turn(self.dropout(x)), self.embedding.weight, self.bias).float().log_softmax(-1)

    def _parts(self, x: torch.Tensor, context: Cache) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(rows, n, 3) shares of the mixture, and for each offer (rows, n, states) where it points, times its share."""
        gate = self.gate(x).float().softmax(-1)
        pointed = []
        for which, offer in enumerate(context["offers"]):
            scores = self.pointers[which][0](x) @ offer["keys"].transpose(1, 2) / x.shape[-1] ** 0.5
            pointed.append(scores.masked_fill(~offer["mask"][:, None], -1e9).float().softmax(-1) * gate[..., which + 1 : which + 2])
        return gate, pointed

    def told(self, draft: Draft, answers: list[np.ndarray], smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum over pieces of -log p of each answer's next piece, how many there are); smoothing pulls the own vocabulary to uniform."""
        device = self.bias.device
        truth = nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in answers], batch_first=True, padding_value=PAD).to(device)
        given = functional.pad(truth[:, :-1], (1, 0), value=START)
        x, _ = self._states(given, draft.context)
        own, real = self._own(x), truth != PAD
        p = own.gather(2, truth[..., None])[..., 0].exp()
        if draft.context["offers"]:
            gate, pointed = self._parts(x, draft.context)
            p = p * gate[..., 0]
            for offer, where in zip(draft.context["offers"], pointed, strict=True):
                fits = (offer["ids"][:, None] == truth[:, :, None, None]) * offer["weights"][:, None]
                p = p + (where * fits.sum(-1)).sum(-1)
        lost = -(p + 1e-9).log() * (1 - smoothing)
        lost = lost - smoothing * own.mean(-1) if smoothing else lost
        return lost[real].sum(), real.sum().float()

    def written(self, draft: Draft) -> list[Written]:
        """The best answer of every row; each of its input's marks is written exactly as often as it stands there."""
        mask = draft.context["mask"]
        prompt = torch.full((len(mask), 1), START, device=mask.device)
        longest = 3 * draft.batch["input_ids"].shape[1] + 8 if "input_ids" in draft.batch else self.head.longest
        return search(self._next, draft.context, prompt, end=END, most=min(self.head.longest, longest), beams=self.head.beams)

    def _next(self, tokens: torch.Tensor, context: Cache) -> tuple[torch.Tensor, Cache]:
        x, context = self._states(tokens, context)
        p = self._own(x)[:, -1].exp()
        if context["offers"]:
            gate, pointed = self._parts(x[:, -1:], context)
            p = p * gate[:, 0, :1]
            for offer, where in zip(context["offers"], pointed, strict=True):
                p = p.scatter_add(1, offer["ids"].flatten(1), (where[:, 0, :, None] * offer["weights"]).flatten(1))
        last = tokens[:, -1:] - 3
        left = context["left"] - (last == torch.arange(len(SLOTS), device=p.device)).to(context["left"].dtype)
        logp = (p + 1e-9).log()
        logp[:, [PAD, START]] = -torch.inf
        logp[:, 3:FIRST] = logp[:, 3:FIRST].masked_fill(left <= 0, -torch.inf)
        logp[:, END] = logp[:, END].masked_fill((left > 0).any(1), -torch.inf)
        return logp, {**context, "left": left}


@torch.no_grad()
def _warm(translator: Translator, backbone: Backbone) -> None:
    """Pieces start as the mean of what the backbone reads their text as; positions and norm as its own where it has such."""
    words = backbone.model.get_input_embeddings().weight
    own = translator.embedding.weight
    own.copy_(torch.randn_like(own) * words.std())
    tokenizer = backbone.tokenizer()
    for piece, text in enumerate(translator.pieces.texts()):
        ids = tokenizer.encode(text, add_special_tokens=False).ids if text else []
        if ids:
            own[piece] += words[ids].mean(0) - 0.75 * own[piece]
    embeddings: Any = getattr(backbone.structure.core, "embeddings", None)
    positions = getattr(getattr(embeddings, "position_embeddings", None), "weight", None)
    if positions is not None and len(positions) >= len(translator.positions.weight):
        translator.positions.weight.copy_(positions[: len(translator.positions.weight)])
        translator.norm.load_state_dict(embeddings.LayerNorm.state_dict())
    else:
        nn.init.normal_(translator.positions.weight, std=0.02)
