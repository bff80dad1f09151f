"""The decoder that an encoder-decoder backbone (Marian, T5, BART, NLLB) brings itself, in the place of a new one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from fmhub.backbones.adapter import inject
from fmhub.errors import DataError, FmhubError
from fmhub.heads.generation import Written, search
from fmhub.heads.pieces import END, SLOTS, Pieces
from fmhub.heads.translator import Draft
from fmhub.stems.marks import WORDS
from fmhub.task import Features

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.heads.translation import Translation
    from fmhub.recipe import Recipe

NAMES = {"fr": ("fra_Latn", "fr_XX", "__fr__"), "de": ("deu_Latn", "de_DE", "__de__"), "es": ("spa_Latn", "es_XX", "__es__"),
         "zh": ("zho_Hans", "zh_CN", "__zh__")}  # fmt: skip
"""What NLLB, mBART and M2M call the languages that they can be asked for."""
UNKNOWN = ("<unk>", "[UNK]")
MOST_UNKNOWN = 0.1
"""Share of a language's tokens that a vocabulary may lack."""


class Native(nn.Module):
    """Around the backbone's decoder, which stays a part of the backbone, as do the adapters in it. See `translator.Translator`."""

    truth = "text"
    decoder: Any
    shared: Any
    out: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, backbone: Backbone, head: Translation, recipe: Recipe) -> None:
        super().__init__()
        model, config = backbone.model, backbone.model.config
        decoder: Any = model.get_decoder()
        if recipe.lora.layers != "head":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                inject(getattr(decoder, "layers", None) or decoder.block, recipe)
        self.__dict__["decoder"] = decoder  # not a child: its parameters have their names in the backbone
        self.head, self.pieces = head, Words(backbone)
        start, end = getattr(config, "decoder_start_token_id", None), config.eos_token_id
        if start is None or end is None:
            raise FmhubError(f"Backbone {backbone.name!r}: its config names no decoder_start_token_id or no eos_token_id.")
        self.end, self.begin = int(end), [int(start), *_asked(backbone, head.language)]
        self.scale = config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0
        self.room = int(getattr(config, "max_position_embeddings", 0) or 512) - len(self.begin)
        tensors = _stored(backbone, ("lm_head.weight", "final_logits_bias"))
        self.__dict__["shared"] = model.get_input_embeddings()
        self.register_buffer("out", tensors.get("lm_head.weight"), persistent=False)
        self.register_buffer("bias", tensors.get("final_logits_bias"), persistent=False)
        if head.answers is not None:
            known = Pieces(head.vocabulary)
            self.pieces.check(
                [known.write([piece for piece in answer.tolist() if piece != END], []) for answer in head.answers[:300]], backbone.name
            )

    def forward(self, features: Features) -> Draft:
        return Draft(self, {"states": features.x, "mask": features.mask, "past": None}, features.batch)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        weight = self.shared.weight if self.out is None else self.out
        return functional.linear(hidden * self.scale, weight, None if self.bias is None else self.bias.flatten()).float()

    def told(self, draft: Draft, texts: list[str], smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum over tokens of -log p of each answer's next one, how many there are)."""
        states = draft.context["states"]
        most = min(self.head.longest, self.room)
        rows = [torch.tensor([*self.begin, *ids[: most - 1], self.end], device=states.device) for ids in self.pieces.read(texts)]
        given = nn.utils.rnn.pad_sequence([row[:-1] for row in rows], batch_first=True, padding_value=self.end)
        truth = nn.utils.rnn.pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=-1)
        truth[:, : len(self.begin) - 1] = -1
        hidden = self._decode(given, draft.context, cached=False).last_hidden_state
        real = truth >= 0
        lost = functional.cross_entropy(self._logits(hidden[real]), truth[real], reduction="sum", label_smoothing=smoothing)
        return lost, real.sum().float()

    def _decode(self, tokens: torch.Tensor, context: Any, *, cached: bool) -> Any:
        return self.decoder(
            input_ids=tokens, encoder_hidden_states=context["states"], encoder_attention_mask=context["mask"].long(),
            past_key_values=context["past"], use_cache=cached,
        )  # fmt: skip

    def written(self, draft: Draft) -> list[Written]:
        """The best answer of every row, by beam search."""
        states = draft.context["states"]
        prompt = torch.tensor([self.begin] * len(states), device=states.device)
        most = min(self.head.longest, self.room, 3 * states.shape[1] + 8)
        return search(self._next, draft.context, prompt, end=self.end, most=most, beams=self.head.beams, taken=_taken)

    def _next(self, tokens: torch.Tensor, context: Any) -> tuple[torch.Tensor, Any]:
        answer = self._decode(tokens, context, cached=True)
        return self._logits(answer.last_hidden_state[:, -1]).log_softmax(-1), {**context, "past": answer.past_key_values}


class Words:
    """Between texts and the backbone's own tokens; see `pieces.Pieces`. Marks are written as the words that the stem reads for them."""

    def __init__(self, backbone: Backbone) -> None:
        self.tokenizer = backbone.tokenizer()

    def read(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text with its slots, without the tokenizer's own."""
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        told = [_said(text, dict(zip(SLOTS, WORDS, strict=True))) for text in texts]
        return [one.ids for one in self.tokenizer.encode_batch_fast(told, add_special_tokens=False)]

    def write(self, tokens: list[int], marks: list[str]) -> str:
        """The text with `marks` in their places; one that was not written comes last."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        for word, mark in zip(WORDS, marks, strict=False):
            text = text.replace(word, mark) if word in text else f"{text} {mark}"
        return text.strip()

    def check(self, texts: list[str], name: str) -> None:
        """Raises `DataError` where the vocabulary lacks what the targets are written in."""
        plain = [_said(text, dict.fromkeys(SLOTS, "")) for text in texts]
        unknown = {self.tokenizer.token_to_id(token) for token in UNKNOWN}
        tokens = [(token, text) for text, ids in zip(plain, self.read(plain), strict=True) for token in ids]
        lacking = [text for token, text in tokens if token in unknown]
        if len(lacking) > MOST_UNKNOWN * max(1, len(tokens)):
            share = len(lacking) / len(tokens)
            raise DataError(
                f"Backbone {name!r} cannot write this language: {share:.0%} of its tokens are unknown to it ({lacking[0][:40]!r})."
            )


def _said(text: str, words: dict[str, str]) -> str:
    for slot, word in words.items():
        text = text.replace(slot, word)
    return text


def _asked(backbone: Backbone, language: str) -> list[int]:
    """The token that asks a backbone of many languages for one; none for a backbone of one. Raises `DataError` for one it lacks."""
    tokenizer = backbone.tokenizer()
    found = [number for name in NAMES.get(language, ()) if (number := tokenizer.token_to_id(name)) is not None]
    many = any(tokenizer.token_to_id(name) is not None for names in NAMES.values() for name in names)
    if many and not found:
        raise DataError(f"Backbone {backbone.name!r} cannot write the language {language!r}.")
    if found:
        return found[:1]
    path = backbone.folder / "generation_config.json"
    forced = json.loads(path.read_text(encoding="utf-8")).get("forced_bos_token_id") if path.is_file() else None
    return [forced] if isinstance(forced, int) else []


def _stored(backbone: Backbone, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Those of the tensors `names` that the backbone's file has: what stands above the model that transformers calls the base."""
    from safetensors import safe_open

    found = {}
    for path in sorted(backbone.folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found.update({name: file.get_tensor(name).float() for name in names if name in file.keys()})  # noqa: SIM118
    return found


def _taken(context: Any, rows: torch.Tensor) -> Any:
    context["past"].reorder_cache(rows)
    return {**context, "states": context["states"][rows], "mask": context["mask"][rows]}
