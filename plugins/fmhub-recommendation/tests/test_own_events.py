"""Somebody's own interactions.csv from the command line: trained on, asked for a user, for titles, and for what is not there."""

from fmhub_recommendation import samples

from fmhub.cli import main


def six_layers(folder):
    """A random BERT of six layers, 32 wide, with a word tokenizer: the task reads the fifth layer from the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["[PAD]", "[UNK]", "Mill", "park"])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    shape = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 4}
    BertModel(BertConfig(**shape), add_pooling_layer=False).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return str(folder)


def test_ones_own_events_end_to_end(tmp_path, capsys):
    rows = samples.events(people=40).to_pylist()
    lines = [f"{row['user']},{row['item']},{row['time']},{row['title']}" for row in rows]
    (tmp_path / "interactions.csv").write_text("\n".join(["who,what,when,name", *lines, "once,mill-park,1600000000,Mill park"]) + "\n")
    own = ["--data", str(tmp_path / "interactions.csv"), "--columns", "user=who,item=what,time=when,title=name"]
    fast = ["--no-baseline", "--quiet", "--set", "recipe.epochs=1", "--backbone", six_layers(tmp_path)]
    assert main(["run", "next-item", *own, *fast]) == 0
    assert "1 users with fewer than 4 different items are in train only" in capsys.readouterr().out
    assert main(["predict", "next-item", "user=person-3", "Mill park; Mill school"]) == 0
    said = capsys.readouterr().out.splitlines()
    titles = {row["title"] for row in rows}
    assert len(said) == 2 and all(set(line.split("  ")[0].split("; ")) <= titles for line in said)
    wrong = {"user=nobody": "Unknown user 'nobody'", "user=once": "Unknown user 'once'", "Mill prak": "Unknown item 'Mill prak'"}
    for typed, words in wrong.items():
        assert main(["predict", "next-item", typed]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert words in line
