"""The vocabulary in which a head writes: byte pairs (Sennrich et al. 2016, arXiv:1508.07909) learnt from training targets alone."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD, START, END = 0, 1, 2
SLOTS = tuple(f"<{place}>" for place in range(8))
"""Single pieces that stand for an input's first mark, its second one, ...; their numbers follow `END`."""
FIRST = 3 + len(SLOTS)


def learn(texts: Iterable[str], size: int) -> str:
    """At most `size` pieces, as the tokenizer's json. Characters that `texts` lack cannot be written."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "<start>", "<end>", *SLOTS]
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


class Pieces:
    """Between texts and pieces; made of what `learn` gave."""

    def __init__(self, vocabulary: str) -> None:
        self.tokenizer = Tokenizer.from_str(vocabulary)
        self.size = self.tokenizer.get_vocab_size()

    def read(self, texts: list[str]) -> list[list[int]]:
        """Pieces of each text, without start and end."""
        return [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def write(self, pieces: list[int], marks: list[str]) -> str:
        """The text, with `marks` in their slots; one that was not written comes last."""
        text = self.tokenizer.decode(pieces, skip_special_tokens=False)
        for slot, mark in zip(SLOTS, marks, strict=False):
            text = text.replace(slot, mark) if slot in text else f"{text} {mark}"
        return text.strip()

    def names(self) -> list[str]:
        """Each piece as the vocabulary has it."""
        return [self.tokenizer.id_to_token(piece) or "" for piece in range(self.size)]

    def texts(self) -> list[str]:
        """What each piece looks like, the special ones as empty."""
        return [name.replace("▁", " ").strip() if piece >= FIRST else "" for piece, name in enumerate(self.names())]
