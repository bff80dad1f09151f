"""The series stem and the baselines on windows of prices, on a tiny backbone."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub import DataError, heads, stems
from fmhub.backbones.load import load
from fmhub.evaluation import baselines
from fmhub.recipe import Lora, Recipe
from fmhub.stems import returns
from fmhub.task import Known, Setting
from fmhub.training.network import Network
from fmhub.training.plan import describe, spec_from

RECIPE = Recipe(dropout=0.0, lora=Lora(rank=2))


def windows(count=30, steps=41, seed=0, target=None):
    draw = np.random.default_rng(seed)
    sizes = draw.choice([0.005, 0.03], size=(count, 1))
    prices = 100 * np.exp(np.cumsum(draw.normal(0, sizes, (count, steps)), axis=1))
    days = np.arange(15_000, 15_000 + steps)[None] + np.arange(count)[:, None]
    return pa.table({
        "id": [f"r{row}" for row in range(count)], "prices": pa.array(prices.tolist()), "days": pa.array(days.tolist()),
        "target": target or np.log(sizes[:, 0] ** 2).tolist(),
    })  # fmt: skip


def network(tiny, table):
    known = Known(train=table)
    stem, head = stems.Series().fit(known), heads.Regression().fit(known, RECIPE)
    return Network(load(tiny, sha256="0" * 64), stem, head, RECIPE, known)


def test_patches_and_plain_numbers_are_standardised(tiny):
    made = network(tiny, windows())
    encoded = made.prepare(windows()).encoded
    assert encoded.values["patches"].shape == (30, 8, 10) and encoded.lengths.tolist() == [8] * 30
    for values in (encoded.values["wide"], encoded.values["patches"].reshape(-1, 10)):
        assert np.abs(values.mean(0)).max() < 1e-4 and np.all((np.abs(values.std(0) - 1) < 1e-3) | (values.std(0) == 0))
    assert made.head.wide.in_features == encoded.values["wide"].shape[1]
    assert spec_from(describe(made.stem_spec), None) == made.stem_spec


def test_only_the_latest_patches_are_read(tiny):
    made = network(tiny, windows())
    longer = windows()
    prices = [[50.0, 60.0, *row] for row in longer["prices"].to_pylist()]
    days = [[1, 2, *row] for row in longer["days"].to_pylist()]
    longer = longer.set_column(1, "prices", pa.array(prices)).set_column(2, "days", pa.array(days))
    one, other = (made.prepare(table, targets=False) for table in (windows(), longer))
    assert torch.equal(made.outputs(one, np.arange(30)), made.outputs(other, np.arange(30)))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 1000))
def test_the_currency_is_nothing(factor):
    table = windows(5)
    scaled = table.set_column(1, "prices", pa.array([[factor * price for price in row] for row in table["prices"].to_pylist()]))
    one, other = (returns.summary(returns.read(rows)[0]) for rows in (table, scaled))
    assert np.allclose(one, other, atol=1e-6)


def test_log_variance_and_moves_by_hand():
    found = np.array([[0.01, -0.02, 0.03]])
    assert returns.log_variance(found, 2)[0] == pytest.approx(np.log((0.0004 + 0.0009) / 2 + 1e-8))
    assert returns.move(found, 1)[0] == pytest.approx(0.03 / np.sqrt((0.0001 + 0.0004 + 0.0009) / 3 + 1e-8))


def test_a_price_that_never_moves_is_finite(tiny):
    flat = windows().set_column(1, "prices", pa.array([[7.0] * 41] * 30))
    assert np.isfinite(network(tiny, windows()).prepare(flat, targets=False).encoded.values["wide"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: {"prices": [*row["prices"][:-1], float("nan")]}, "Row r3: a price is not a number above 0."),
        (lambda row: {"prices": [*row["prices"][:-1], -1.0]}, "Row r3: a price is not a number above 0."),
        (lambda row: {"prices": row["prices"][:9], "days": row["days"][:9]}, "Row r3: 9 prices, 41 are needed, oldest first."),
        (lambda row: {"days": row["days"][::-1]}, "Row r3: its days are not in order."),
        (lambda row: {"days": row["days"][1:]}, "Row r3: 41 prices and 40 days."),
    ],
)
def test_windows_that_cannot_be_used_are_named_by_their_row(tiny, change, message):
    made = network(tiny, windows())
    rows = windows().to_pylist()
    rows[3].update(change(rows[3]))
    with pytest.raises(DataError, match=message):
        made.prepare(pa.Table.from_pylist(rows), targets=False)


def test_typed_prices_are_taken_for_weekdays():
    row = stems.Series().typed("100, 101 102.5")
    assert row["prices"] == [100.0, 101.0, 102.5] and len(row["days"]) == 3
    assert all(np.is_busday(np.datetime64(day, "D")) for day in row["days"])
    with pytest.raises(DataError, match="Prices are numbers"):
        stems.Series().typed("ten")


def test_baselines_of_a_level_and_of_a_label():
    table = windows(200)
    setting = Setting(train=table, validation=table, head=heads.Regression())
    truth = np.array(table["target"].to_pylist())
    for spec in (baselines.Har(), baselines.SeriesBoosting(), baselines.Persistence(22)):
        found = np.array(spec.fit(setting).predict(table.drop_columns(["target"]))["prediction"])
        assert np.corrcoef(found, truth)[0, 1] > 0.9
    named = windows(200, target=["high" if value > -8 else "low" for value in truth])
    setting = Setting(train=named, validation=named, head=heads.Classification(labels=("low", "high")))
    for spec in (baselines.Har(), baselines.SeriesBoosting(), baselines.Persistence(), baselines.Momentum(), baselines.Label("low")):
        found = spec.fit(setting).predict(named.drop_columns(["target"]))
        assert set(found["prediction"]) <= {"low", "high"} and np.allclose(np.sum(found["scores"], axis=1), 1)
