"""What people of the field bring: their own tables and prices, what is wrong with them, and labels that mean nothing."""

import random
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
from fmhub_finance import credit, fmhub_tasks, samples
from toy import registered

from fmhub import api, data
from fmhub.cli import main
from fmhub.runs import folder as run_folder

TASKS = {task.name: task for task in fmhub_tasks()}
FAST = ["--no-baseline", "--quiet", "--set", "recipe.epochs=1"]


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A folder of a random BERT of six layers, 32 wide, with a word tokenizer: the tasks read the fifth layer from the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("six")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["[PAD]", "[UNK]", "none", "car"])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    shape = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 4}
    BertModel(BertConfig(**shape), add_pooling_layer=False).save_pretrained(folder)
    return folder


def table(path, **changes):
    """240 applications as a csv, with other columns where they are named."""
    rows = samples.applications(240).select(["checking account", "savings", "months", "age", "amount in DM", "outcome"]).to_pydict()
    rows |= {name: values(rows) if callable(values) else values for name, values in changes.items()}
    lines = [",".join(rows)] + [",".join("" if cell is None else str(cell) for cell in row) for row in zip(*rows.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["run", "credit-risk", "--data", str(path), "--columns", "label=outcome", *FAST]


def refused(capsys, *command):
    """The one line that a command ends with."""
    assert main(list(command)) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    return line


def test_ones_own_table_end_to_end(six, tmp_path, capsys):
    assert main([*table(tmp_path / "own.csv", bank=["ours"] * 240), "--backbone", str(six)]) == 0
    assert "the same in every training row, so not read: bank" in capsys.readouterr().out
    assert main(["predict", "credit-risk", "checking account=none; months=24", '{"savings": "gold", "months": 6}']) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] in ("good", "bad") for line in said] == [True, True], "a value that JSON brings may be a new one"
    assert "'savings': training had no 'gold'" in refused(capsys, "predict", "credit-risk", "savings=gold")
    assert "Unknown column 'month'. Did you mean months?" in refused(capsys, "predict", "credit-risk", "month=24")
    assert "Column 'months' holds numbers, not 'two years'" in refused(capsys, "predict", "credit-risk", "months=two years")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"months": lambda rows: ["long", *rows["months"][1:]]}, "column 'months' holds numbers, not 'long'"),
        ({"outcome": ["good"] * 240}, "every training row has the target 'good'; at least two are needed"),
        ({"outcome": ["good"] * 239 + ["bad"]}, "auc is undefined on the validation part"),
        ({"name": [f"person {row}" for row in range(240)]}, "different texts"),
    ],
    ids=["text for a number", "one class", "a part of one class", "names"],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(six, tmp_path, capsys, changes, words):
    assert words in refused(capsys, *table(tmp_path / "own.csv", **changes), "--backbone", str(six))


def test_ones_own_prices_end_to_end(six, tmp_path, capsys):
    prices = samples.prices(900).to_pydict()
    lines = [f"{day},{price}" for day, price in zip(prices["time"], prices["close"], strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["Date,Close", *lines]) + "\n")
    own = ["--data", str(tmp_path / "own.csv"), "--columns", "time=Date,close=Close", "--backbone", str(six), *FAST]
    assert main(["run", "volatility-level", *own]) == 0
    capsys.readouterr()
    latest = " ".join(f"{price:.2f}" for price in prices["close"][-131:])
    assert main(["predict", "volatility-level", latest]) == 0
    assert "% a day, " in capsys.readouterr().out
    wrong = {
        "100 101": "2 prices, 131 are needed",
        latest.replace(" ", " -", 1): "a price is not a number above 0",
        latest.replace(" ", " nan ", 1): "a price is not a number above 0",
        "dear cheap": "Prices are numbers",
    }
    for typed, words in wrong.items():
        assert words in refused(capsys, "predict", "volatility-level", typed)


def test_shuffled_outcomes_are_not_told_apart(six):
    rows = credit.applications()
    outcome = rows["outcome"].to_pylist()
    random.Random(1).shuffle(outcome)
    shuffled = rows.set_column(rows.column_names.index("outcome"), "outcome", pa.array(outcome))
    one = replace(
        TASKS["credit-risk"], name="toy", backbone=str(six), data=data.rows(lambda: shuffled, split=data.KFold(3), label="outcome")
    )
    with registered(one):
        score = api.run("toy", folds=3)["scores"]["test"]["auc"]
    assert score["n"] == 1000 and score["low"] < 0.5 < score["high"] + 0.01 and abs(score["value"] - 0.5) < 0.06


def test_the_report_shows_the_course_of_time_and_who_is_served_how(six, tmp_path):
    prices = samples.prices(900)
    one = replace(TASKS["volatility"], name="toy", backbone=str(six), redistribute=True,
                  data=replace(TASKS["volatility"].sample, prices=data.rows(lambda: prices)))  # fmt: skip
    with registered(one):
        api.run("toy", output=tmp_path / "run", set={"epochs": 1}, baseline=False)
        page = _page(tmp_path / "run")
    for title in ("In the order of time", "Calibration", "Decisions", "Confusion matrix"):
        assert f"<h2>{title}</h2>" in page
    two = replace(TASKS["credit-risk"], name="toy", backbone=str(six), data=data.rows(lambda: samples.applications(), label="outcome"))
    with registered(two):
        api.run("toy", output=tmp_path / "two", set={"epochs": 1}, baseline=False)
        page = _page(tmp_path / "two")
    assert "<h2>Scores by group</h2>" in page and "25 or younger" in page and "net benefit" in page


def _page(folder):
    from fmhub.report import write

    shown = write(run_folder.find(folder)).read_text(encoding="utf-8")
    shutil.rmtree(folder)
    return shown
