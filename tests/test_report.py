"""The report is one page of its own, escapes everything, draws what the columns hold and says how to do it again."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmhub import evaluation
from fmhub.cli import main
from fmhub.errors import UsageError
from fmhub.report import svg, write
from fmhub.report.markup import Markup, table, tag, text
from fmhub.report.page import command
from fmhub.runs import folder as run_folder

COST = {
    "train_seconds": 61.5, "total_seconds": 80.0, "samples_per_second": 210.4, "peak_memory_bytes": 900 << 20,
    "trainable_parameters": 148_610, "total_parameters": 22_861_826, "adapter_bytes": 600_000, "cpu_seconds": 120.0, "latency_ms": None,
}  # fmt: skip


def rows(n=120, labels=("neg", "pos"), seed=0, number=False):
    random = np.random.default_rng(seed)
    common = {
        "id": [f"r{row}" for row in range(n)], "split": ["test"] * n, "fold": [0] * n, "seed": [0] * n, "group": pa.nulls(n, pa.string()),
    }  # fmt: skip
    tail = {"domain": [("tweets", "news")[row % 2] for row in range(n)], "input": [f"text {row}" for row in range(n)]}
    if number:
        target = random.normal(size=n)
        return pa.table({**common, "prediction": target + 0.3 * random.normal(size=n), "target": target, **tail})
    scores = random.dirichlet(np.ones(len(labels)), size=n)
    guess = [labels[place] for place in scores.argmax(1)]
    target = [word if random.random() < 0.8 else labels[random.integers(len(labels))] for word in guess]
    return pa.table({**common, "prediction": guess, "scores": scores.tolist(), "target": target, **tail})


def make(folder: Path, predictions, *, metrics=("f1_macro", "accuracy"), labels=("neg", "pos"), baseline=None, log=(), **changes) -> Path:
    head = {"kind": "fmhub.heads:Classification", "labels": list(labels) if labels else None}
    plan = {
        "id": "sentiment-1", "started": "2026-11-24T01:00:00Z", "backbone": {"name": "minilm-l6", "sha256": "ab" * 32},
        "task": {"name": "sentiment", "version": "1", "plugin": "fmhub-text", "plugin_version": "0.1.0", "family": "text"},
        "data": {"fingerprint": "f" * 64, "train": 2048, "validation": 100, "test": len(predictions)},
        "recipe": {"kind": "fmhub.recipe:Recipe", "epochs": 3.0, "seed": 0, "lora": {"rank": 8, "targets": ["all"]}},
        "stem": {}, "head": head, "metrics": list(metrics), "baselines": ["majority"],
        "options": {"seeds": 1, "folds": 0, "baseline": True},
    }  # fmt: skip
    plan = {**plan, **changes}
    scores = {"test": evaluation.evaluate(predictions, metrics, labels, resamples=50)}
    against = baseline if baseline is not None else predictions
    other = {"test": evaluation.evaluate(against, metrics, labels, resamples=50)}
    gap = evaluation.difference(predictions, against, metrics[0], labels, resamples=50)
    record = {
        **{key: plan[key] for key in ("id", "started", "task", "backbone", "data", "recipe")}, "status": "done", "seed": 0, "seeds": 1,
        "scores": scores, "primary": metrics[0], "normalised": None, "folds": None, "groups": None, "privacy": None, "cost": COST,
        "baselines": [{"name": "majority", "scores": other, "difference": gap}], "test_readings": 1, "notes": [],
        "environment": {"python": "3.11", "versions": {"torch": "2.13.0"}},
    }  # fmt: skip
    run_folder.write_json(folder / "plan.json", plan)
    run_folder.write_json(folder / "run.json", record)
    run_folder.write_table(folder / "predictions.parquet", predictions)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return folder


class Page(HTMLParser):
    """Every tag with its attributes, the headings, and all text."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []  # every tag is closed

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in self.VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


LOG = [
    {"member": "seed 0", "step": 10, "loss": 0.7},
    {"member": "seed 0", "step": 20, "loss": 0.5, "validation": 0.7},
    {"member": "seed 0", "step": 20, "loss": 0.4, "validation": 0.8},
]


def test_a_classifier_s_page_has_what_its_columns_hold(tmp_path):
    baseline = rows(seed=0)
    wrong = baseline.set_column(5, "prediction", pa.array(["neg"] * len(baseline)))
    page = Page(write(make(tmp_path / "run", rows(), baseline=wrong, log=LOG)))
    assert page.headings == [
        "Scores", "Learning curve", "Confusion matrix", "Calibration", "Decisions", "Scores by part of the data",
        "Worst mistakes", "Cost", "How to do it again", "Environment and data",
    ]  # fmt: skip
    for words in (
        "fmhub run fmhub-text:sentiment",
        "The adapter is better than majority",
        "tweets",
        "900.0 MiB",
        "148,610",
    ):
        assert words in page.words


def test_a_regressor_s_page_has_residuals_and_no_confusion(tmp_path):
    page = Page(write(make(tmp_path / "run", rows(number=True), metrics=("mae", "r2"), labels=None, log=LOG)))
    assert "Residuals" in page.headings
    assert not {"Confusion matrix", "Calibration"} & set(page.headings)
    assert "not to be told apart from majority" in page.words


@pytest.mark.parametrize("number", [True, False])
def test_of_examples_with_a_date_the_course_is_drawn(tmp_path, number):
    table = rows(number=number)
    dated = [f"made-up {2010 + row // 36}-{row // 3 % 12 + 1:02}-0{row % 3 + 1}" for row in range(len(table))]
    metrics, labels = (("mae", "r2"), None) if number else (("f1_macro", "accuracy"), ("neg", "pos"))
    page = Page(write(make(tmp_path / "run", table.set_column(0, "id", pa.array(dated)), metrics=metrics, labels=labels)))
    assert "In the order of time" in page.headings and ("value" if number else "share pos") in page.words
    drawn = [points["points"].split() for name, points in page.tags if name == "polyline" and len(points["points"].split()) == 40]
    assert len(drawn) == 2, "predicted and true, one point a month of three rows"
    few = table.slice(0, 10).set_column(0, "id", pa.array(dated[:10]))
    assert "In the order of time" not in Page(write(make(tmp_path / "few", few, metrics=metrics, labels=labels))).headings


def test_of_an_error_the_smaller_one_is_called_better(tmp_path):
    ours = rows(number=True)
    theirs = ours.set_column(5, "prediction", pa.array(np.zeros(len(ours))))
    page = Page(write(make(tmp_path / "run", ours, baseline=theirs, metrics=("mae",), labels=None)))
    assert "better than majority: difference -" in page.words


def test_the_page_fetches_and_runs_nothing(tmp_path):
    page = Page(write(make(tmp_path / "run", rows(), log=LOG)))
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & {name for name, _ in page.tags}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "data", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    policies = [attributes["content"] for name, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert policies[0].startswith("default-src 'none'")
    assert "url(" not in (tmp_path / "run" / "report.html").read_text()


NASTY = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u202e\x00"


def test_hostile_words_stay_words_wherever_they_come_from(tmp_path):
    predictions = rows(labels=("neg", NASTY))
    for name in ("id", "domain", "input"):
        column = [f"{NASTY}{row if name != 'domain' else row % 2}" for row in range(len(predictions))]
        predictions = predictions.set_column(predictions.schema.get_field_index(name), name, pa.array(column))
    task = {"name": NASTY, "version": NASTY, "plugin": NASTY, "plugin_version": "1", "family": "text"}
    options = {"data": NASTY, "set": {"lr": NASTY}, "columns": {"text": NASTY}, "seeds": 1, "folds": 0, "baseline": False}
    log = [{"member": NASTY, "step": 1, "loss": 1.0, "validation": 0.1}]
    page = Page(write(make(tmp_path / "run", predictions, labels=("neg", NASTY), log=log, id=NASTY, task=task, options=options)))
    assert not {"script", "img"} & {name for name, _ in page.tags}
    assert page.words.count("<script>alert(1)</script>") > 20
    assert "\u202e" not in page.words
    assert "\x00" not in page.words


def test_many_labels_give_the_most_frequent_mistakes(tmp_path):
    labels = tuple(f"label{number}" for number in range(30))
    page = Page(write(make(tmp_path / "run", rows(300, labels=labels), labels=labels)))
    assert "predicted as" in page.words


def test_a_perfect_run_without_log_or_extra_columns(tmp_path):
    predictions = rows().drop_columns(["domain", "input", "scores"])
    predictions = predictions.set_column(predictions.schema.get_field_index("target"), "target", predictions["prediction"])
    page = Page(write(make(tmp_path / "run", predictions)))
    assert page.headings == ["Scores", "Confusion matrix", "Cost", "How to do it again", "Environment and data"]


def test_a_single_group_says_that_there_is_no_interval(tmp_path):
    predictions = rows()
    predictions = predictions.set_column(4, "group", pa.array(["one"] * len(predictions)))
    assert "one group or example only" in Page(write(make(tmp_path / "run", predictions))).words


def test_targets_that_were_left_out_leave_out_what_needs_them(tmp_path):
    run = make(tmp_path / "run", rows())
    predictions = rows()
    run_folder.write_table(run / "predictions.parquet", predictions.set_column(7, "target", pa.nulls(len(predictions), pa.string())))
    page = Page(write(run))
    assert not {"Confusion matrix", "Worst mistakes", "Scores by part of the data"} & set(page.headings)


def test_no_example_is_shown_where_the_licence_kept_the_targets_out(tmp_path, monkeypatch):
    from fmhub.report import run as report_run

    run, predictions = make(tmp_path / "run", rows()), rows()
    run_folder.write_table(run / "predictions.parquet", predictions.drop_columns(["target", "input", "domain"]))
    monkeypatch.setattr(report_run, "with_targets", lambda folder, table: table.append_column("target", predictions["target"]))
    page = Page(write(run))
    assert {"Confusion matrix", "Calibration"} <= set(page.headings)
    assert "Worst mistakes" not in page.headings
    assert "r17" not in page.words


def test_a_page_without_targets_where_the_plugin_is_gone(tmp_path):
    run = make(tmp_path / "run", rows())
    run_folder.write_table(run / "predictions.parquet", rows().drop_columns(["target"]))
    assert Page(write(run)).headings == ["Scores", "Cost", "How to do it again", "Environment and data"]


def test_training_sizes_and_groups_of_the_record_are_drawn(tmp_path):
    run = make(tmp_path / "run", rows())
    record = run_folder.read_record(run)
    score = record["scores"]["test"]
    point = {"score": score["f1_macro"], "baselines": [{"name": "majority", "score": score["f1_macro"], "difference": None}]}
    record["curve"] = {"metric": "f1_macro", "points": [{"train": 100, **point}, {"train": 300, **point}], "says": "worth it from 100"}
    record["groups"] = {"domain": {"values": {"tweets": score, "news": score}, "left_out": 7}}
    run_folder.write_json(run / "run.json", record)
    page = Page(write(run))
    assert {"Score by training size", "Scores by group"} <= set(page.headings)
    assert "Scores by part of the data" not in page.headings  # the same column once
    assert "worth it from 100" in page.words
    assert "7 rarer values" in page.words


def test_names_of_single_examples_are_no_parts_of_the_data(tmp_path):
    each = rows(30).append_column("sha256", pa.array([f"{row:02x}" for row in range(30)]))
    words = Page(write(make(tmp_path / "run", each))).words
    assert "tweets" in words and "sha256" not in words.partition("Scores by part of the data")[2].partition("Worst mistakes")[0]


def test_a_metric_that_nobody_knows_any_more_is_still_shown(tmp_path):
    run = make(tmp_path / "run", rows())
    for name in ("plan.json", "run.json"):
        (run / name).write_text((run / name).read_text().replace("f1_macro", "own-metric"))
    assert "own-metric" in Page(write(run)).words


def test_a_log_with_half_a_line_is_read_as_far_as_it_goes(tmp_path):
    run = make(tmp_path / "run", rows(), log=LOG)
    with (run / "log.jsonl").open("a") as file:
        file.write('[1]\n{"step": "x"}\n{"member": "seed 0", "st')
    page = Page(write(run))
    assert "Learning curve" in page.headings
    lines = [attributes["points"] for name, attributes in page.tags if name == "polyline"]
    assert len((lines[0] or "").split()) == 2  # the step that was taken twice counts once


def test_a_run_that_is_not_done_has_no_report(tmp_path):
    run = make(tmp_path / "run", rows())
    (run / "run.json").unlink()
    run_folder.write_status(run, "stopped")
    with pytest.raises(UsageError, match=r"is stopped.*--resume"):
        write(run)
    assert not (run / "report.html").exists()


def test_the_command_prints_the_path(tmp_path, capsys):
    run = make(tmp_path / "run", rows())
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert main(["report", "nothing"]) == 2


def test_the_command_to_do_it_again():
    plan = {
        "task": {"plugin": "fmhub-text", "name": "text-classification"},
        "options": {
            "kind": "fmhub.training.plan:Options", "data": "my file.csv", "columns": {"text": "review", "label": "stars"},
            "set": {"lr": 0.002, "recipe.lora.rank": "16"},
            "seed": 3, "seeds": 1, "folds": 5, "limit": 200, "baseline": False, "fast": True, "budget": None, "groups": None,
        },
    }  # fmt: skip
    assert command(plan) == (
        "fmhub run fmhub-text:text-classification --data 'my file.csv' --columns text=review,label=stars "
        "--set recipe.lr=0.002 --set recipe.lora.rank=16 --seed 3 --folds 5 --limit 200 --no-baseline --fast"
    )


@given(st.text())
def test_text_never_opens_a_tag(value):
    assert not set(text(value)) & set("<>\"'")


def test_markup_nests_and_escapes_once():
    assert tag("p", "a<b", tag("i", "&"), class_="x", hidden=None) == '<p class="x">a&lt;b<i>&amp;</i></p>'
    assert text(Markup("<b>")) == "<b>"
    assert '<th scope="row">&lt;</th>' in table((), [("<", 1)])


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low, width):
    high = low + width
    found = svg.ticks((low, high))
    assert 1 <= len(found) <= 6
    assert all(low - width * 1e-6 <= value <= high + width * 1e-6 for value in found)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [0.0, 0.0]])
def test_charts_stand_without_spread(values):
    drawn = svg.lines({"a": list(enumerate(values))}, "x", "y") + svg.bars([0, 1], [0], "x", "y") + svg.interval(1, 1, 1, (1, 1))
    assert "nan" not in drawn
    assert "inf" not in drawn
