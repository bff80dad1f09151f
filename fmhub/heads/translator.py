"""The decoder of the translation head: what it may write next, from its own vocabulary and from what it is offered.

Its probability of a piece is a mixture (pointer-generator: See et al. 2017, arXiv:1704.04368) of its tied output layer, of
a lexicon read where it attends to the input (Arthur et al. 2016, arXiv:1606.02006), and of copying from what it is shown: a
draft put together from phrases of the training pairs, and the answers of the nearest ones (Gu et al. 2018, arXiv:1705.07267).
Training begins where the draft is written as it is: copying goes on behind what was written last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fmhub.heads.decoder import DecoderLayer
from fmhub.heads.drafts import Drafts
from fmhub.heads.generation import Cache, Written, search, take
from fmhub.heads.pieces import END, FIRST, PAD, SLOTS, START, Pieces
from fmhub.task import Features

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.heads.translation import Translation
    from fmhub.recipe import Recipe


FOLLOW = (5.0, 3.0, 3.0, 3.0, 3.0, 3.0)
"""Where training begins: how much a piece of the draft is raised because the one, two, three, ... before it were written last."""
GATE = (0.0, 0.0, 3.0)
"""And the logits of the own vocabulary's, the lexicon's and copying's share."""
FIXED = ("across", "mask", "offers")
"""What a row's beams have in common."""


@dataclass
class Draft:
    """What the head's module gives: itself and what it knows of a batch; loss and decoding go on from there."""

    translator: Any
    context: Cache
    batch: Any


class Translator(nn.Module):
    """Decoder, tied output layer, pointers, and what may be copied: the lexicon (`found`, `shares`), drafts and remembered answers."""

    truth = "pieces"
    """The head's target that it learns from."""
    stem: Any
    layers: Any
    pointers: Any
    drafts: Any
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
        head = self.head
        self.pointers = nn.ModuleList(nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(2))
        self.gate = nn.Linear(width, 3)
        nn.init.zeros_(self.gate.weight)
        self.rank = nn.Embedding(1 + head.shown, width)
        self.likeness = nn.Linear(1, width)
        self.near = nn.Conv1d(width, width, 3, padding=1)
        self.blend = nn.LayerNorm(width)
        for layer in (self.rank, self.likeness, self.near):
            nn.init.normal_(layer.weight, std=0.02)
        self.follow = nn.Parameter(torch.tensor([FOLLOW, *[[0.0] * len(FOLLOW)] * head.shown]))
        self.gate.bias.data.copy_(torch.tensor(GATE))
        copier = self.pointers[1]
        nn.init.zeros_(copier[0].weight)  # at first only what was written last says where to copy from
        nn.init.zeros_(copier[0].bias)
        self.drafts = Drafts(backbone, self.stem, head, self.pieces)
        words = backbone.model.get_input_embeddings().num_embeddings
        found, shares = np.zeros((words, head.offered), np.int32), np.zeros((words, head.offered), np.float32)
        if head.answers is not None:
            for token, pieces in self.drafts.drafter().book.lexicon(head.offered).items():
                found[token, : len(pieces)], shares[token, : len(pieces)] = zip(*pieces, strict=True)
        self.register_buffer("found", torch.from_numpy(found))
        self.register_buffer("shares", torch.from_numpy(shares))

    def forward(self, features: Features) -> Draft:
        states, mask, batch = features.x, features.mask, features.batch
        assert mask is not None
        offers, seen, real = [], states, mask
        if self.recalls:
            ids = batch["input_ids"]
            offers.append(self._offered(0, states, mask, self.found[ids].long(), self.shares[ids]))
            memory, known, pieces, before = self._shown(batch)
            offers.append(self._offered(1, memory, known, pieces[..., None], torch.ones_like(pieces, dtype=states.dtype)[..., None]))
            offers[1]["before"] = before
            seen, real = torch.cat([states, memory], 1), torch.cat([mask, known], 1)
        bias = torch.zeros_like(real, dtype=states.dtype).masked_fill(~real, -1e9)[:, None, None]
        across = [layer.across.known(seen) for layer in self.layers]
        times = (
            functional.pad(batch["times"], (0, len(SLOTS)))[:, : len(SLOTS)]
            if "times" in batch
            else states.new_zeros(len(states), len(SLOTS))
        )
        last = times.new_full((len(states), len(FOLLOW)), START).long()
        return Draft(self, {"across": across, "mask": bias, "offers": offers, "left": times, "last": last, "past": None, "at": 0}, batch)

    def _shown(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(rows, pieces, width) states of the draft and the nearest examples' answers one after another, which are real, the pieces,
        and (rows, pieces, back) those before each."""
        draft, barred = self.drafts(batch)
        rows, alike = self.stem.nearest(batch, self.head.shown, barred)
        answers = self.drafts.answers[rows].long()
        length = max(draft.shape[1], int((answers > 0).sum(-1).max()) if answers.numel() else 0)
        answers = functional.pad(answers, (0, max(0, length - answers.shape[2])))[..., :length]
        pieces = torch.cat([functional.pad(draft, (0, length - draft.shape[1]))[:, None], answers], 1)  # (rows, 1 + shown, length)
        alike = functional.pad(alike, (1, 0), value=1.0)
        state = self.embedding(pieces) + self.positions.weight[:length] + self.rank.weight[: pieces.shape[1], None]
        state = (state + self.likeness(alike[..., None])[:, :, None]) * (pieces > 0)[..., None]
        beside = self.near(state.flatten(0, 1).transpose(1, 2)).transpose(1, 2).view_as(state)  # each on its own, whatever is padded
        state = self.blend(state + beside).flatten(1, 2)
        before = torch.stack([functional.pad(pieces, (back, 0), value=START)[..., :length] for back in range(1, len(FOLLOW) + 1)], -1)
        flat = pieces.flatten(1)
        return state, (flat > 0) & (alike.repeat_interleave(length, 1) > 0), flat, before.flatten(1, 2)

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

    def _parts(self, x: torch.Tensor, last: torch.Tensor, context: Cache) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(rows, n, 3) shares of the mixture, and for each offer (rows, n, states) where it points, times its share.

        `last` (rows, n, back) are the pieces before each that is asked for, the nearest first.
        """
        gate = self.gate(x).float().softmax(-1)
        pointed = []
        for which, offer in enumerate(context["offers"]):
            scores = self.pointers[which][0](x) @ offer["keys"].transpose(1, 2) / x.shape[-1] ** 0.5
            if "before" in offer:
                scores = scores + self._goes_on(last, offer["before"])
            pointed.append(scores.masked_fill(~offer["mask"][:, None], -1e9).float().softmax(-1) * gate[..., which + 1 : which + 2])
        return gate, pointed

    def _goes_on(self, last: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """(rows, n, states) how much a place is raised because one, two, ... pieces before it are the last that were written."""
        strength = self.follow.repeat_interleave(before.shape[1] // len(self.follow), 0)
        raised, same = strength.new_zeros(()), torch.ones((), dtype=torch.bool, device=before.device)
        for back in range(last.shape[2]):
            same = same & (last[:, :, None, back] == before[:, None, :, back])
            raised = raised + same * strength[:, back]
        return raised

    def told(self, draft: Draft, answers: list[np.ndarray], smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum over pieces of -log p of each answer's next piece, how many there are); smoothing pulls the own vocabulary to uniform."""
        device = self.bias.device
        truth = nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in answers], batch_first=True, padding_value=PAD).to(device)
        given = functional.pad(truth[:, :-1], (1, 0), value=START)
        x, _ = self._states(given, draft.context)
        own, real = self._own(x), truth != PAD
        p = own.gather(2, truth[..., None])[..., 0].exp()
        if draft.context["offers"]:
            earlier = functional.pad(given, (len(FOLLOW) - 1, 0), value=START).unfold(1, len(FOLLOW), 1).flip(2)
            gate, pointed = self._parts(x, earlier, draft.context)
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
        return search(self._next, draft.context, prompt, end=END, most=min(self.head.longest, longest), beams=self.head.beams, taken=_taken)

    def _next(self, tokens: torch.Tensor, context: Cache) -> tuple[torch.Tensor, Cache]:
        x, context = self._states(tokens, context)
        p = self._own(x)[:, -1].exp()
        recent = torch.cat([tokens.flip(1), context["last"]], 1)[:, : len(FOLLOW)]
        if context["offers"]:
            gate, pointed = self._parts(x[:, -1:], recent[:, None], context)
            p = p * gate[:, 0, :1]
            for offer, where in zip(context["offers"], pointed, strict=True):
                p = p.scatter_add(1, offer["ids"].flatten(1), (where[:, 0, :, None] * offer["weights"]).flatten(1))
        last = tokens[:, -1:] - 3
        left = context["left"] - (last == torch.arange(len(SLOTS), device=p.device)).to(context["left"].dtype)
        logp = (p + 1e-9).log()
        logp[:, [PAD, START]] = -torch.inf
        logp[:, 3:FIRST] = logp[:, 3:FIRST].masked_fill(left <= 0, -torch.inf)
        logp[:, END] = logp[:, END].masked_fill((left > 0).any(1), -torch.inf)
        return logp, {**context, "left": left, "last": recent}


def _taken(context: Cache, rows: torch.Tensor) -> Cache:
    """See `generation.search`: beams change places within their row only, so what they have in common is taken once."""
    spread = len(rows) != len(context["mask"])
    return {name: take(value, rows) if spread or name not in FIXED else value for name, value in context.items()}


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
