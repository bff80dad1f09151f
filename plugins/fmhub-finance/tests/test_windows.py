"""Prices as windows: split by time, blind to the future, and what cannot be used said in one line."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
import torch
from fmhub_finance import samples
from fmhub_finance.windows import Variance, Windows

from fmhub import DataError, UsageError, data, stems
from fmhub.task import Known


def windows(table, target="level", horizon=5, window=20, **more):
    return Windows(data.rows(lambda: table), target, horizon, window=window, **more)


def rows(prices, start="2012-01-02", step=1):
    first = datetime.date.fromisoformat(start)
    return pa.table({"time": [str(first + datetime.timedelta(days=step * day)) for day in range(len(prices))], "close": prices})


def changed(table, row, **values):
    found = table.to_pylist()
    found[row] |= values
    return pa.Table.from_pylist(found)


def test_the_target_is_what_follows_the_window():
    draw = np.random.default_rng(0)
    prices = 50 * np.exp(np.cumsum(draw.normal(0, 0.01, 900)))
    for kind, horizon in (("level", 5), ("class", 5), ("direction", 1)):
        parts = windows(rows(prices.tolist()), kind, horizon).load().tables
        median = np.median([_value(prices, row, 5) for row in parts["train"].to_pylist()])
        for row in (*_rows(parts["train"]), *_rows(parts["test"])):
            value = _value(prices, row, horizon)
            expected = {"level": value, "class": "high" if value > median else "low"}.get(kind)
            after = prices[_end(row) + 1]
            assert row["target"] == (
                pytest.approx(expected) if kind == "level" else expected or ("up" if after > row["prices"][-1] else "down")
            )
            assert row["prices"] == pytest.approx(prices[_end(row) - 20 : _end(row) + 1].tolist())


def _rows(table):
    return table.to_pylist()[::50]


def _end(row):
    return (datetime.date.fromisoformat(row["time"]) - datetime.date(2012, 1, 2)).days


def _value(prices, row, horizon):
    ahead = np.diff(np.log(prices[_end(row) : _end(row) + horizon + 1]))
    return np.log((ahead**2).mean() + 1e-8)


def test_parts_follow_one_another_and_no_target_reaches_over_a_cutoff():
    splits = windows(samples.prices()).load()
    parts = {name: splits.tables[name]["time"].to_pylist() for name in ("train", "validation", "test")}
    assert max(parts["train"]) < min(parts["validation"]) and max(parts["validation"]) < min(parts["test"])
    gap = datetime.date.fromisoformat(min(parts["test"])) - datetime.date.fromisoformat(max(parts["validation"]))
    assert gap.days >= 5 and splits.rule == "Temporal" and "reaches over a cutoff" in splits.notes[-1]
    groups = [set(splits.tables[name]["group"].to_pylist()) for name in parts]
    assert not (groups[0] & groups[1] or groups[1] & groups[2] or groups[0] & groups[2])


def test_moving_the_future_changes_no_earlier_row_and_no_earlier_prediction(tmp_path):
    from transformers import BertConfig

    from fmhub import heads
    from fmhub.backbones.load import load
    from fmhub.recipe import Recipe
    from fmhub.training.network import Network

    table = samples.prices(900)
    spec = windows(table, cutoffs=("2013-09-01", "2014-06-01"))
    before = spec.load().tables
    now = "2014-10-01"
    moved = [price * (1.7 if day > now else 1) for day, price in zip(table["time"].to_pylist(), table["close"].to_pylist(), strict=True)]
    later = table.set_column(table.column_names.index("close"), "close", pa.array(moved))
    after = windows(later, cutoffs=spec.cutoffs).load().tables
    assert before["train"].equals(after["train"]) and before["validation"].equals(after["validation"])
    past = [part["test"].filter(pa.array([day <= now for day in part["test"]["time"].to_pylist()])) for part in (before, after)]
    assert len(past[0]) > 50 and past[0].drop_columns(["target"]).equals(past[1].drop_columns(["target"]))
    assert not past[0].equals(past[1])  # the last days' targets lie in the future
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 9}
    BertConfig(**shape).save_pretrained(tmp_path)
    said = []
    for parts, rows in zip((before, after), past, strict=True):
        known = Known(train=parts["train"])
        network = Network(
            load(tmp_path, sha256="0" * 64, random=True),
            stems.Series().fit(known),
            heads.Regression().fit(known, Recipe()),
            Recipe(),
            known,
        )
        with torch.no_grad():
            said.append(network.head_spec.decode(network.outputs(network.prepare(rows, targets=False), np.arange(len(rows))))["prediction"])
    assert np.array_equal(*said)


def test_one_series_is_tested_and_the_others_apart():
    splits = windows(samples.prices(900, series=3), series="made-up 1", cutoffs=("2013-09-01", "2014-06-01")).load()
    assert {name: set(table["series"].to_pylist()) for name, table in splits.tables.items()} == {
        "train": {"made-up 1"}, "validation": {"made-up 1"}, "test": {"made-up 1"}, "shift:others": {"made-up 0", "made-up 2"},
    }  # fmt: skip
    alike = windows(samples.prices(900, series=3), cutoffs=("2013-09-01", "2014-06-01")).load()
    assert len(alike.tables["test"]) == 3 * len(splits.tables["test"])


def test_pauses_and_splits_are_not_gone_across():
    steady = (100 * np.exp(0.001 * np.sin(np.arange(1200)))).tolist()
    whole = windows(rows(steady)).load()
    split = windows(rows([price / (7 if day > 600 else 1) for day, price in enumerate(steady)])).load()
    assert "1 days look like a split" in split.notes[0]
    assert sum(map(len, whole.tables.values())) - sum(map(len, split.tables.values())) == 25
    table = rows(steady)
    late = [
        str(datetime.date.fromisoformat(day) + datetime.timedelta(days=30 * (number > 600)))
        for number, day in enumerate(table["time"].to_pylist())
    ]
    assert "1 pauses of more than 14 days" in windows(table.set_column(0, "time", pa.array(late))).load().notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: changed(table, 4, close=float("nan")), "row 5 of 400 has no price"),
        (lambda table: changed(table, 4, close=-3.0), "row 5 of 400 has a price that is not above 0"),
        (lambda table: table.set_column(1, "close", pa.array(["3"] * 9 + ["x"] * 391)), "row 10 holds 'x' where a price should be"),
        (lambda table: changed(table, 4, time=None), "row 5 of 400 has no time"),
        (lambda table: changed(table, 4, time="2012-01-02"), "rows 1 and 5 are both price of 2012-01-02: one price a day"),
        (lambda table: changed(table, 4, time="May 5"), "its time is no ISO date"),
        (lambda table: table.set_column(0, "time", pa.array(range(400))), r"its time holds numbers \(0\)"),
        (lambda table: changed(table, 4, time="2912-01-02"), "row 5 of 400 has a day that lies in the future"),
        (
            lambda table: table.set_column(0, "time", pa.array([f"{day}T00:00:00+02:00" for day in table["time"].to_pylist()])),
            "carry a time zone",
        ),
        (
            lambda table: table.rename_columns(["time", "klose"]),
            r"no column 'close' \(for close\): --columns close=NAME. Did you mean klose\?",
        ),
        (lambda table: table.slice(0, 20), "no series has 26 days in a row"),
        (lambda table: table.slice(0, 300), "at least 8 are needed"),
        (lambda table: table.append_column("series", pa.array([None] + ["a"] * 399)), "row 1 of 400 has no series"),
    ],
)
def test_prices_that_cannot_be_used_are_named_in_one_line(change, message):
    with pytest.raises(DataError, match=message) as caught:
        windows(change(rows([100.0 + day % 7 for day in range(400)]))).load()
    assert "\n" not in str(caught.value)


def test_ones_own_prices(tmp_path):
    table = samples.prices(900)
    path = tmp_path / "prices.csv"
    lines = [f"{day},{price}" for day, price in zip(table["time"].to_pylist(), table["close"].to_pylist(), strict=True)]
    path.write_text("\n".join(["Date,Close", *lines]) + "\n")
    own = windows(table, cutoffs=("2013-09-01", "2014-06-01"), series="x").opened(str(path), {"time": "Date", "close": "Close"}, None, None)
    assert own.cutoffs is None and own.series is None and len(own.load().tables["test"]) > 50
    with pytest.raises(UsageError, match="--test does not go with prices"):
        own.opened(str(path), {}, "other.csv", None)
    with pytest.raises(UsageError, match="prices have time="):
        own.opened(str(path), {"text": "Close"}, None, None)


def test_a_level_is_said_as_volatility():
    assert Variance().readable(2 * np.log(0.01)) == "1.00% a day, 15.9% a year"
