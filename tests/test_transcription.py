"""Writing down what is said: the targets, the loss of the true text, search by the backbone's own decoder, windows joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from fmhub import heads
from fmhub.backbones.adapter import attach
from fmhub.errors import DataError, UsageError
from fmhub.heads.writing import SPARE, Writing
from fmhub.recipe import Lora, Recipe
from fmhub.task import Encoded, Features, Known

WORDS = ["zero", "one", "two", "three", "four", "five"]
RECIPE = Recipe(lora=Lora(rank=4))
SPEC = heads.Transcription(prompt=("<|start|>", "<|plain|>"), end="<|end|>", lead="")


@pytest.fixture
def backbone(shaped: Any) -> Any:
    """A random Whisper, 10 positions, whose words are six; end, start, plain and other are special."""
    found = shaped("whisper")
    words = {word: number for number, word in enumerate(["<pad>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<|end|>", "<|start|>", "<|plain|>", "<|other|>")])
    tokenizer.save(str(found.folder / "tokenizer.json"))
    return found


def table(*texts: Any) -> pa.Table:
    return pa.table({"id": [f"r{number}" for number in range(len(texts))], "target": list(texts)})


def writing(backbone: Any, recipe: Recipe = RECIPE, **changes: Any) -> Writing:
    from dataclasses import replace

    attach(backbone, recipe)
    return replace(SPEC, **changes).build(backbone, None, recipe)  # type: ignore[return-value]


def outputs(head: Writing, states: torch.Tensor, owner: list[int] | None = None) -> dict[str, Any]:
    batch = {} if owner is None else {"owner": torch.tensor(owner)}
    return head(Features(states, torch.ones(states.shape[:2], dtype=torch.bool), batch))


def test_the_loss_is_the_cross_entropy_of_the_true_tokens_and_the_end(backbone: Any) -> None:
    head, states = writing(backbone), torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(0))
    total, count = SPEC.loss(outputs(head, states), {"text": ["one two", "four"]}, RECIPE)
    wanted = 0.0
    for row, words in enumerate([[2, 3], [5]]):
        start, plain, end = (backbone.tokenizer().token_to_id(name) for name in ("<|start|>", "<|plain|>", "<|end|>"))
        tokens = torch.tensor([[start, plain, *words, end]])
        hidden = backbone.model.decoder(input_ids=tokens[:, :-1], encoder_hidden_states=states[row : row + 1]).last_hidden_state
        logp = (hidden @ backbone.model.decoder.embed_tokens.weight.T).log_softmax(-1)[0]
        wanted -= sum(logp[place, tokens[0, place + 1]].item() for place in range(1, tokens.shape[1] - 1))
    assert float(count) == 5 and float(total.detach()) == pytest.approx(wanted, rel=1e-5)


def test_every_layer_of_the_decoder_learns_and_the_table_of_words_does_not(backbone: Any) -> None:
    head = writing(backbone)
    total, _ = SPEC.loss(outputs(head, torch.randn(2, 10, 32)), {"text": ["one two", "four"]}, RECIPE)
    total.backward()
    trained = {name for name, parameter in backbone.model.decoder.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[1] for name in trained} == {"0", "1"} and all("lora" in name for name in trained)


def test_what_is_learnt_by_heart_is_written_down(backbone: Any) -> None:
    """The decoder alone must tell three states apart."""
    head, texts = writing(backbone), ["one two three", "four", "five five zero one"]
    states = 3 * torch.randn(3, 10, 32, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam([parameter for parameter in backbone.model.decoder.parameters() if parameter.requires_grad], lr=2e-2)
    for _ in range(150):
        optimiser.zero_grad()
        total, count = SPEC.loss(outputs(head, states), {"text": texts}, RECIPE)
        (total / count).backward()
        optimiser.step()
    with torch.inference_mode():
        assert SPEC.decode(outputs(head, states))["prediction"] == texts
        assert SPEC.decode(outputs(head, states[[2, 0, 1]], [0, 1, 1]))["prediction"] == [texts[2], f"{texts[0]} {texts[1]}"]
        head.spec = heads.Transcription(**{**vars(SPEC), "beams": 3})
        assert SPEC.decode(outputs(head, states))["prediction"] == texts


def test_greedy_search_with_a_cache_is_that_without_one(backbone: Any) -> None:
    head, states = writing(backbone), torch.randn(3, 10, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = head.written(states, torch.full((3,), 10))
        for row, said in enumerate(found):
            tokens = [*head.prompt]
            while len(tokens) < len(head.prompt) + SPARE + 2:
                hidden = backbone.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=states[row : row + 1])
                likely = head.logits(hidden.last_hidden_state[0, -1])
                likely[head.unwanted] = -torch.inf
                if len(tokens) == len(head.prompt):
                    likely[head.end] = -torch.inf
                if (token := int(likely.argmax())) == head.end:
                    break
                tokens.append(token)
            assert said == tokens[len(head.prompt) :] and said


def test_no_more_is_written_than_there_is_time_to_say_and_never_a_special_token(backbone: Any) -> None:
    head = writing(backbone)
    with torch.no_grad():
        backbone.model.decoder.embed_tokens.weight[head.end] = 0  # never the likeliest: it would go on for ever
        backbone.model.decoder.layer_norm.bias.copy_(backbone.model.decoder.embed_tokens.weight[3] * 50)
        found = head.written(torch.randn(2, 10, 32), torch.tensor([10, 0]))
    assert [len(one) for one in found] == [SPARE + 2, SPARE]
    special = {backbone.tokenizer().token_to_id(name) for name in ("<|start|>", "<|plain|>", "<|other|>")}
    assert special <= set(head.unwanted.tolist()) and not special & {token for one in found for token in one}


def test_an_example_of_several_windows_teaches_nothing(backbone: Any) -> None:
    head, states = writing(backbone), torch.randn(3, 10, 32)
    total, count = SPEC.loss(outputs(head, states, [0, 1, 1]), {"text": ["one", "two three"]}, RECIPE)
    alone, same = SPEC.loss(outputs(head, states[:1], [0]), {"text": ["one"]}, RECIPE)
    assert float(total.detach()) == pytest.approx(float(alone.detach()), rel=1e-5) and count == same == 2
    total, count = SPEC.loss(outputs(head, states[:2], [0, 0]), {"text": ["one"]}, RECIPE)
    assert float(total) == 0 and count == 1
    assert SPEC.learnable(Encoded(np.array([1, 2, 1]), {"windows": np.array([0, 1, 3, 4])})).tolist() == [True, False, True]
    assert SPEC.learnable(Encoded(np.array([1, 2]), ["texts"])).all()


@pytest.mark.parametrize("value", ["", "  \n", None, 3])
def test_an_empty_transcript_is_refused_by_its_row(value: Any) -> None:
    with pytest.raises(DataError, match=r"^Row r1: the transcript is .*: a text is needed\.$"):
        SPEC.targets(pa.table({"id": ["r0", "r1"], "target": pa.array([None, value] if value == 3 else ["one", value])}).slice(1))


def test_a_transcript_in_another_alphabet_is_refused_by_its_row() -> None:
    latin, russian = heads.Transcription(script="LATIN"), heads.Transcription(script="CYRILLIC")
    with pytest.raises(DataError, match=r"^Row r1: 'Ещё раз' is written in Cyrillic letters; this task writes Latin ones\.$"):
        latin.fit(Known(train=table("again", "Ещё раз")), RECIPE)
    with pytest.raises(DataError, match="is written in Latin letters; this task writes Cyrillic ones"):
        russian.targets(table("again"))
    assert russian.targets(table("протокол IAX", " 1 2 ", "Ещё\n раз"))["text"] == ["протокол IAX", "1 2", "Ещё раз"]
    assert latin.targets(table("numéro", "über", "æ"))["text"] == ["numéro", "über", "æ"]
    assert SPEC.targets(table("Ещё", "again"))["text"] == ["Ещё", "again"]


def test_a_backbone_without_decoder_or_token_is_refused(backbone: Any, shaped: Any) -> None:
    with pytest.raises(UsageError, match="has no decoder, so that it cannot write: use one such as whisper-tiny-en"):
        SPEC.build(shaped("bert"), None, RECIPE)
    with pytest.raises(UsageError, match=r"has no token '<\|fr\|>'"):
        writing(backbone, prompt=("<|start|>", "<|fr|>"))


def test_a_text_longer_than_the_decoder_can_be_is_cut(backbone: Any) -> None:
    total, count = SPEC.loss(outputs(writing(backbone), torch.randn(1, 10, 32)), {"text": ["one " * 50]}, RECIPE)
    assert count == 15 and bool(torch.isfinite(total))  # 16 positions, two of them the prompt's, and the end


def test_the_decoder_gets_an_adapter_whatever_else_of_it_is_trained_and_none_with_head(backbone: Any, shaped: Any) -> None:
    backbone.missing = {name for name, _ in backbone.model.named_parameters() if name == "decoder.layer_norm.weight"}
    assert backbone.missing
    writing(backbone)
    trained = [name for name, parameter in backbone.model.named_parameters() if parameter.requires_grad]
    assert "decoder.layer_norm.weight" in trained and any("decoder" in name and "lora_A" in name for name in trained)
    assert not any("lora" in name for name, _ in again(shaped, backbone).named_parameters())


def again(shaped: Any, backbone: Any) -> Any:
    """Another random Whisper with the same tokenizer, its recipe without LoRA."""
    other = shaped("whisper")
    other.folder = backbone.folder
    writing(other, Recipe(lora=Lora(layers="head")))
    return other.model
