"""The draft of each input of a batch, and all that drafts are made from, kept in buffers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fmhub.heads.alignment import Link, aligned, begins
from fmhub.heads.drafter import Drafter
from fmhub.heads.phrasebook import Phrase, Phrasebook
from fmhub.heads.pieces import END, FIRST, SLOTS, Pieces
from fmhub.stems.marks import WORDS

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.heads.translation import Translation

MOST = 40_000
"""Pairs that phrases are taken from, the first ones."""
_made: dict[str, Drafter] = {}
"""The last drafter of this process: the seeds of one run share it."""


class Drafts(nn.Module):
    """`answers` (texts, kept) int32 pieces, `links` (texts, 2 * kept, 2) int16 places in text and answer that go together, counted
    from 1, `groups` (texts,) int32: of texts in one group none is asked for another's answer.
    """

    answers: torch.Tensor
    links: torch.Tensor
    groups: torch.Tensor
    stem: Any

    def __init__(self, backbone: Backbone, stem: Any, head: Translation, pieces: Pieces) -> None:
        super().__init__()
        self.__dict__["stem"] = stem  # shared, not owned
        self.pieces, self.tokens, self.longest = pieces, backbone.tokenizer(), head.longest
        texts = len(stem.keys)
        self.register_buffer("answers", torch.zeros(texts, head.kept, dtype=torch.int32))
        self.register_buffer("links", torch.zeros(texts, 2 * head.kept, 2, dtype=torch.int16))
        self.register_buffer("groups", torch.arange(texts, dtype=torch.int32))
        if head.answers is not None:
            self._fill(head)

    def _fill(self, head: Translation) -> None:
        assert head.answers is not None
        for row, answer in enumerate(head.answers):
            self.answers[row, : len(answer)] = torch.from_numpy(answer[: head.kept].astype(np.int32))
        self.groups.copy_(torch.tensor(head.groups))
        sources, targets = (side[:MOST] for side in self._pairs())
        left, right = (begins(names) for names in (self._tokens(), self.pieces.names()))
        for row, found in enumerate(aligned([left[one] for one in sources], [right[one] for one in targets])):
            places = torch.tensor(found[: 2 * head.kept], dtype=torch.int16).view(-1, 2) + 1
            self.links[row, : len(places)] = places

    def _tokens(self) -> list[str]:
        return [self.tokens.id_to_token(token) or "" for token in range(self.tokens.get_vocab_size())]

    def _pairs(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Tokens of the remembered texts, and pieces of their answers without the end."""
        keys, answers = self.stem.keys.cpu().numpy(), self.answers.cpu().numpy()
        return [row[row > 0] for row in keys], [row[(row > 0) & (row != END)] for row in answers]

    def drafter(self) -> Drafter:
        """Made of the buffers when it is first asked for: a restored module has them by then."""
        parts = [tensor.cpu().numpy().tobytes() for tensor in (self.stem.keys, self.answers, self.links, self.groups)]
        name = hashlib.sha256(b"".join([*parts, self.pieces.tokenizer.to_str().encode()])).hexdigest()
        if name not in _made:
            _made.clear()
            links: list[list[Link]] = [[(i - 1, j - 1) for i, j in row if i] for row in self.links.cpu().tolist()]
            words = {self.tokens.token_to_id(word): (FIRST - len(SLOTS) + place,) for place, word in enumerate(WORDS)}
            fixed: dict[int, Phrase] = {token: slot for token, slot in words.items() if token is not None}
            _made[name] = Drafter(Phrasebook(*self._pairs(), links, self.groups.cpu().tolist()), fixed, self._spelt)
        return _made[name]

    def _spelt(self, token: int) -> tuple[int, ...]:
        """A token that was never answered is written as it is."""
        return tuple(self.pieces.read([(self.tokens.id_to_token(token) or "").removeprefix("##")])[0])

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(rows, pieces) int64 with the end, 0 beyond it; and in training (rows, texts) which texts were not asked: a remembered
        one is answered as if its group were not there."""
        if self.__dict__.get("asked") is None:
            self.__dict__["asked"] = self.drafter()
        drafter, kept, device = self.__dict__["asked"], self.stem.keys.shape[1], self.answers.device
        rows = [ids[ids > 0].tolist()[1:-1] for ids in (batch["input_ids"] * batch["attention_mask"]).cpu()]
        groups = [drafter.book.group(row[:kept]) if self.training else None for row in rows]
        drafts = [[*drafter.draft(row, group)[: self.longest - 1], END] for row, group in zip(rows, groups, strict=True)]
        own = torch.tensor([-1 if group is None else group for group in groups], device=device)
        padded = nn.utils.rnn.pad_sequence([torch.tensor(draft, device=device) for draft in drafts], batch_first=True)
        return padded, self.groups == own[:, None] if self.training else None
