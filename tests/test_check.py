"""The conformance kit: a good plugin passes every check, and each kind of bad one fails the check that is there for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli import env, fmhub
from test_install import make_wheel

from fmhub import hub
from fmhub.errors import UsageError
from fmhub.plugins import trial
from fmhub.plugins.environment import installed
from fmhub.testing import Outcome, chance, data_checks, kit, metric_checks, sockets, training_checks

GOOD = '''
"""Remarks, good or bad."""
import random
from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import Metric, baselines

fmhub_api = (1, 0)


def remarks(count=120):
    import pyarrow as pa
    draw, rows = random.Random(0), {}
    words = {"up": ("good", "fine", "happy"), "down": ("bad", "awful", "sad")}
    while len(rows) < count:
        label = ("up", "down")[len(rows) % 2]
        rows[" ".join([draw.choice(("the", "a", "red", "blue")), draw.choice(("film", "day", "book", "news")),
                       draw.choice(("was", "is")), *draw.sample(words[label], 2), str(len(rows))])] = label
    return pa.table({"text": list(rows), "label": list(rows.values())})

ROWS = data.rows(remarks, text="text", label="label")
PARTS = dict(
    name="remarks", title="Remarks", licence="CC0-1.0", data=ROWS, head=heads.Classification(labels=["down", "up"]), metrics=["accuracy"],
    recipe=Recipe(epochs=4, lr=1e-2, length=16),
)

@hookimpl
def fmhub_tasks():
    yield Task(**PARTS)
'''


@pytest.fixture
def looked(distribution, tiny):
    """`looked(CODE, check, ...)`: the outcomes of some checks of a plugin made of `GOOD` and the code that changes it."""

    def look(code: str, *checks) -> list[Outcome]:
        distribution("fmhub-made", GOOD.replace("@hookimpl", code + "\n@hookimpl"))
        hub.refresh()
        plugin = hub.plugin("fmhub-made")
        with kit.opened(plugin, plugin.tasks[0], str(tiny)) as it:
            return [kit.judged(one, it) for one in checks]

    return look


def test_a_good_plugin_passes_every_check(distribution, tiny, site, home, tmp_path):
    distribution("fmhub-made", GOOD)
    badge = tmp_path / "badge.svg"
    done = fmhub("check", "fmhub-made", "--backbone", tiny, "--json", "--badge", badge, home=home, path=(site,))
    outcomes = {row["check"]: row for row in json.loads(done.stdout)}
    assert {name for name, row in outcomes.items() if row["ok"] is not True} == {"package licence"}, outcomes
    assert {kit.title(one) for one in kit.checks()} < set(outcomes)
    assert outcomes["splits disjoint"]["figure"] == "train 84, validation 12, test 24"
    assert outcomes["perfect scores the bound"]["figure"] == "accuracy 1"
    assert outcomes["beats the floor"]["figure"].startswith("accuracy ")
    assert f"{sum(row['ok'] is True for row in json.loads(done.stdout))} passed" in badge.read_text()
    assert not (home / "runs").exists() and not (home / "board.sqlite").exists(), "a check leaves nothing on the board"


LEAK = """
def leaking():
    rows = remarks()
    test = rows.slice(90)
    return {"train": TRAIN, "test": test}
PARTS["data"] = data.rows(leaking, text="text", label="label")
"""
CROSSING = """
def crossing():
    rows = remarks()
    import pyarrow as pa
    rows = rows.append_column("group", pa.array([f"site {number % 60}" for number in range(len(rows))]))
    return {"train": rows.slice(0, 90), "test": rows.slice(90)}
PARTS["data"] = data.rows(crossing, text="text", label="label", split=data.Given())
"""
OWN_SOURCE = """
class Own:
    def load(self):
        from fmhub.task import Splits
        tables, whole = crossing(), ROWS.load()
        named = {name: part.rename_columns(["text", "target", "group"]).append_column("id", part["text"]) for name, part in tables.items()}
        return Splits({**named, "validation": named["test"].slice(0, 0)}, whole.fingerprint)
PARTS["data"] = Own()
"""


@pytest.mark.parametrize(
    ("code", "check", "said"),
    [
        (LEAK.replace("TRAIN", "rows"), data_checks.splits_disjoint, "identical to examples held out"),
        (CROSSING, data_checks.splits_disjoint, "is both in train and in test; a group must not cross a split"),
        (CROSSING + OWN_SOURCE, data_checks.splits_disjoint, "30 groups are in more than one split, such as 'site"),
        (
            "import pyarrow as pa\nimport pyarrow.compute as pc\n"
            + LEAK.replace("TRAIN", "rows.set_column(0, 'text', pc.utf8_upper(rows['text'])).append_column('n', pa.array(range(120)))")
            .replace("rows.slice(90)", "rows.slice(90).append_column('n', pa.array(range(30)))")
            .replace(', text="text", label="label"', ""),
            data_checks.splits_disjoint,
            "30 examples are in more than one split",
        ),
        (
            "def told():\n    rows = remarks()\n    import pyarrow.compute as pc\n"
            "    return rows.set_column(0, 'text', pc.binary_join_element_wise(rows['text'], rows['label'], ' ['))\n"
            'PARTS["data"] = data.rows(told, text="text", label="label")',
            data_checks.answer_hidden,
            "the target's text is in 100% of the inputs, another target's in 0%",
        ),
        (
            "def coded():\n    rows = remarks()\n    import pyarrow as pa\n"
            "    texts = [f'{text} c{label == \"up\":d}' for text, label in zip(*rows.to_pydict().values())]\n"
            "    return rows.set_column(0, 'text', pa.array(texts))\n"
            'PARTS["data"] = data.rows(coded, text="text", label="label")',
            data_checks.answer_hidden,
            "single words give the label away: 'c1' is up, 'c0' is down",
        ),
        (
            "def glued():\n    rows = remarks()\n    import pyarrow as pa\n"
            "    texts = [f'{text}{label == \"up\":d}' for text, label in zip(*rows.to_pydict().values())]\n"
            "    return rows.set_column(0, 'text', pa.array(texts))\n"
            'PARTS["data"] = data.rows(glued, text="text", label="label")',
            data_checks.answer_hidden,
            "single words give the label away: '...1' is up, '...0' is down",
        ),
        (
            LEAK.replace(
                "TRAIN", "rows.set_column(0, 'text', __import__('pyarrow').array([f'{one}!' for one in rows['text'].to_pylist()]))"
            ),
            data_checks.splits_disjoint,
            "30 examples are in more than one split but for marks",
        ),
        (
            'PARTS["data"] = data.rows(lambda: remarks(random.randrange(60, 99999) // 100))',
            data_checks.same_in_another_process,
            "needs a seed",
        ),
        (
            'PARTS["stem"] = stems.Text(fields=("text", "target"))',
            training_checks.blind_to_targets,
            "the stem reads the column target",
        ),
        (
            'PARTS["metrics"] = [Metric("always", lambda columns, labels: 1.0, "max", 0, 1)]',
            metric_checks.metrics_read_predictions,
            "always is 1 whatever is predicted: it ignores its input",
        ),
        (
            'PARTS["metrics"] = [Metric("wrong", lambda c, labels: float((c["prediction"] == c["target"]).mean()), "min", 0, 1)]',
            metric_checks.perfect_scores_the_bound,
            "wrong is 1 and its bound 0",
        ),
        (
            'PARTS["metrics"] = [Metric("first", lambda c, labels: float((c["prediction"] == c["target"])[:7].mean()), "max", 0, 1)]',
            metric_checks.order_of_rows_is_nothing,
            "in another order",
        ),
    ],
)
def test_a_mutant_fails_the_check_that_is_there_for_it(code, check, said, looked):
    (outcome,) = looked(code, check)
    assert outcome.ok is False, outcome
    assert said in outcome.figure


def test_dealing_out_predictions_leaves_each_row_what_the_data_say_of_it():
    import pyarrow as pa

    from fmhub.task import Splits

    it = SimpleNamespace(splits=Splits({"test": pa.table({"id": ["a", "b"], "target": [0, 1], "slice": ["one", "two"]})}, ""))
    table = {"id": np.array([0, 1]), "target": np.array([0, 1]), "slice": np.array([1, 2]), "prediction": np.array([5, 6])}
    found = chance.dealt(it, table, np.array([1, 0]))
    assert {name: values.tolist() for name, values in found.items()} == {
        "id": [0, 1], "target": [0, 1], "slice": [1, 2], "prediction": [6, 5],
    }  # fmt: skip


AWAY = """
class Away:
    def load(self):
        import os
        from fmhub.errors import FetchError
        raise FetchError("not here, offline " + os.environ["FMHUB_OFFLINE"])
PARTS["data"] = Away()
"""


@pytest.mark.parametrize(
    ("code", "ok", "said"),
    [
        (CROSSING + OWN_SOURCE, False, "the declared data: 30 groups are in more than one split, such as 'site"),
        (AWAY, True, "train 84, validation 12, test 24; the declared data are not here, the sample alone was seen"),
        ("", True, "the declared data: train 84, validation 12, test 24"),
    ],
)
def test_the_data_that_a_sample_stands_for_are_looked_at_where_they_are_here(code, ok, said, looked, monkeypatch):
    monkeypatch.delenv("FMHUB_OFFLINE", raising=False)
    (found,) = looked(code + '\nPARTS["sample"] = ROWS\n', data_checks.splits_disjoint)
    assert found.ok is ok and said in found.figure, found
    assert "FMHUB_OFFLINE" not in os.environ


PAIRS = """
def pairs():
    import pyarrow as pa
    nouns, signs = ["film", "day", "book", "news", "window", "cell", "page"], ["good", "fine", "happy", "bad", "awful", "sad"]
    rows = [(f"open the {sign} {noun} {sign[::-1]} {noun[::-1]}", f"ouvrir {noun} {sign}") for noun in nouns for sign in signs]
    parts = {"train": rows[:30], "validation": rows[30:34], "test": rows[34:]}
    CHANGED
    return {name: pa.table({"source": [one for one, _ in part], "target": [one for _, one in part]}) for name, part in parts.items()}
PARTS.update(data=data.rows(pairs, split=data.Given(), source="source", target="target"), stem=stems.Passage(), head=heads.Translation(),
             metrics=["chrf"])
"""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("pass", "train 30, validation 4, test 8"),
        (
            "parts['test'][0] = ('Open: that good film doog mlif, now', 'ouvrir film bon')",
            "1 pairs of sources in different splits are near",
        ),
    ],
)
def test_near_duplicate_sources_in_two_splits_are_found(changed, said, looked):
    (found,) = looked(PAIRS.replace("CHANGED", changed), data_checks.splits_disjoint)
    assert found.ok is (changed == "pass") and said in found.figure, found


def test_what_depends_on_the_order_of_hashes_or_opens_a_socket_is_seen_by_the_other_process(looked):
    code = (
        "def remarks(plain=remarks):\n    import urllib.request, pyarrow as pa\n    rows = plain()\n"
        "    try:\n        urllib.request.urlopen('http://127.0.0.1:9/', timeout=1)\n    except OSError:\n        pass\n"
        "    return rows.take(pa.array(sorted(range(len(rows)), key=lambda row: hash(rows['text'][row].as_py()))))\n"
        'PARTS["data"] = data.rows(remarks, text="text", label="label")'
    )
    first, second, third = looked(
        code, training_checks.sockets_closed, data_checks.same_in_another_process, training_checks.same_seed_same_bits
    )
    assert first.ok is False and "it tried getaddrinfo 127.0.0.1" in first.figure
    assert second.ok is False and "in another process" in second.figure
    assert third.ok is False


def test_noise_learns_nothing_and_says_so(looked):
    """No word tells the label: it does not beat the floor, and a task that expects chance is only told."""
    code = (
        "def noise():\n    import pyarrow as pa\n    rows = remarks()\n    draw = random.Random(5)\n"
        "    return rows.set_column(1, 'label', pa.array([draw.choice(['up', 'down']) for _ in range(len(rows))]))\n"
        'PARTS["data"] = data.rows(noise, text="text", label="label")\nPARTS["expects"] = EXPECTS'
    )
    (outcome,) = looked(code.replace("EXPECTS", '"chance"'), training_checks.beats_the_floor)
    assert outcome.ok is None and "floor" in outcome.figure


@pytest.mark.parametrize(
    ("code", "check", "said"),
    [
        ("import torch", "light import", "it imports torch"),
        ("import time\nend = time.process_time() + 0.08\nwhile time.process_time() < end: pass", "light import", "more than 50 ms"),
        ("import socket; socket.socket().close()", "loads", "sockets are closed"),
        ('try:\n    import socket; socket.getaddrinfo("localhost", 80)\nexcept OSError: pass', "light import", "it opens a socket"),
        ('PARTS["title"] = ""', "metadata", "title is ''"),
        ('PARTS["metrics"] = ["accuracy", "accuracy"]', "names", "metric accuracy is named twice"),
        ('PARTS["backbone"] = "minilm"', "names", "Unknown backbone 'minilm'"),
        ("1 / 0", "loads", "ZeroDivisionError"),
        ("import os; os._exit(1)", "loads", "ended the process"),
    ],
)
def test_the_quick_checks(code, check, said, distribution):
    distribution("fmhub-made", GOOD.replace("@hookimpl", code + "\n@hookimpl"))
    outcome = next(outcome for outcome in kit.quick("fmhub-made") if outcome.check == check)
    assert outcome.ok is False and said in outcome.figure


@pytest.mark.parametrize(
    ("scores", "low", "ok"),
    [((0.5,), 0, True), ((0.7, 0.8), -0.2, True), ((0.7, 0.69), -0.01, True), ((0.7, 0.69), 0.001, False), ((0.7, 0.5), 0.1, False)],
)
def test_what_a_network_knows_before_training_is_no_leak(scores, low, ok, monkeypatch):
    """Scores after training on dealt-out targets and, where that is above chance (0.5 +- 0.02), before any; and the gain's low end."""
    import pyarrow as pa

    from fmhub import Recipe, Task, data, heads
    from fmhub.task import Splits

    rows = pa.table({"id": list("abcd"), "target": list("xyxy")})
    epochs, left = [], iter(scores)

    def run(task, name, **_):
        epochs.append(task.recipe.epochs)
        return {}, name

    task = Task(
        name="t", title="T", data=data.rows(lambda: rows), head=heads.Classification(), metrics=["accuracy"], recipe=Recipe(epochs=3)
    )
    orders = np.array([0.48, 0.52])
    monkeypatch.setattr(training_checks, "gain", lambda *_: (low, 0.3))
    monkeypatch.setattr(training_checks.Chance, "of", lambda *_: training_checks.Chance(next(left), orders, 0.5, 1.0))
    it = SimpleNamespace(is_likelihood=False, task=task, run=run, splits=Splits({"train": rows, "validation": rows, "test": rows}, ""))
    assert training_checks.shuffled_labels_at_the_floor(it)[0] is ok
    assert epochs == [2, 0][: len(scores)]


@pytest.mark.parametrize(
    ("metric", "away"), [("accuracy", lambda right: np.where(right, "x", "y")), ("rmse", lambda right: np.where(right, 0.0, 1.0))]
)
def test_the_gain_of_a_leak_lies_above_nothing_and_that_of_other_mistakes_does_not(metric, away, monkeypatch):
    """Forty rows: 38 right against 22 is learnt; 23 against 22, on other rows, is not. Less of an error is a gain, too."""
    runs = {"before": np.arange(40) < 22, "leak": np.arange(40) < 38, "noise": np.arange(40) >= 17}

    def columns(_, folder):
        return {"id": np.arange(40).astype(str), "target": away(np.ones(40, bool)), "prediction": away(runs[folder])}

    monkeypatch.setattr(chance, "test_columns", columns)
    it = SimpleNamespace(task=SimpleNamespace(metrics=[metric], head=None))
    low, high = chance.gain(it, "leak", "before")
    assert 0 < low < high
    low, high = chance.gain(it, "noise", "before")
    assert low < 0 < high


def test_licences():
    from fmhub.testing.quick import package_licence

    assert package_licence("mit or apache-2.0") == (True, "MIT OR Apache-2.0")
    assert package_licence("")[0] is None
    assert package_licence("free")[0] is False


def test_perfect_predictions_of_several_shapes():
    def made(prediction, target, labels=None, **more):
        columns = {
            "prediction": np.array([None, *prediction], dtype=object)[1:],
            "target": np.array([None, *target], dtype=object)[1:],
            **more,
        }
        return metric_checks.perfect(columns, labels)

    assert list(made(["a", "b"], ["b", "b"])["prediction"]) == ["b", "b"]
    assert made(["a"], ["b"], ["a", "b"], scores=np.array([[0.7, 0.3]]))["scores"].tolist() == [[0, 1]]
    assert list(made([["x", "y", "z"]], ["z"])["prediction"][0]) == ["z", "x", "y"]
    boxes = made([[{"box": [0, 0, 1, 1], "label": "cat", "score": 0.4}]], [[{"box": [1, 1, 2, 2], "label": "dog"}]])
    assert boxes["prediction"][0] == [{"box": [1, 1, 2, 2], "label": "dog", "score": 1.0}]
    assert made([{"answer": "x"}], ["x"]) is None


def test_sockets_are_closed_for_good_and_files_are_not():
    code = (
        "import socket\nfrom fmhub.testing import sockets\ntried = sockets.close()\n"
        "left, right = socket.socketpair(); left.send(b'x'); left.close(); right.close()\n"
        "socket.socket().close()\n"
        "for reach in (lambda: socket.create_connection(('127.0.0.1', 9)), lambda: socket.getaddrinfo('localhost', 80)):\n"
        "    try: reach()\n    except OSError: pass\n    else: raise SystemExit('open')\nprint(len(tried))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "2\n", done.stderr
    assert {*sockets.REACHING} & {*sockets.MAKING} == set()


def test_what_cannot_be_checked(home, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="Did you mean fmhub-text"):
        list(kit.check("fmhub-txt"))
    with pytest.raises(UsageError, match="has no task 'sentimnt'"):
        list(kit.check("fmhub-text", tasks=["sentimnt"]))
    monkeypatch.chdir(tmp_path)
    assert "Name an installed plugin or the folder of one" in fmhub("check", home=home, code=2).stderr
    assert "neither a wheel nor a folder" in fmhub("check", "./nowhere", home=home, code=2).stderr
    said = fmhub("check", make_wheel(tmp_path, "made-lib", point=False), home=home, code=2).stderr
    assert "is no plugin: package made-lib has no entry point in group `fmhub`" in said


def test_what_an_extra_of_a_requirement_lacks_is_named(distribution):
    """`fmhub[image]` asks for more than fmhub."""
    distribution("made-lib", "", requires=["absent-lib>=1; extra == 'deep'", "other-lib; extra == 'wide'", "click"], group="other")
    distribution("fmhub-made", GOOD, requires=["made-lib[deep]>=0.5", "click"])
    assert trial.lacks(installed("fmhub-made")) == ["absent-lib>=1"]


def test_a_failure_ends_with_1_and_a_red_badge(distribution, site, home, tmp_path):
    distribution("fmhub-made", GOOD.replace("@hookimpl", "import sklearn\n@hookimpl"))
    badge = tmp_path / "badge.svg"
    done = fmhub("check", "fmhub-made", "--quick", "--badge", badge, home=home, path=(site,), code=1)
    assert "FAILED  light import: " in done.stdout and "sklearn" in done.stdout
    assert done.stdout.endswith(" passed, 1 failed\n")
    assert "1 failed" in badge.read_text()


def test_authors_run_it_under_pytest(distribution, site, home, tiny, tmp_path):
    """Beside their own tests; what fails shows its figure."""
    distribution("fmhub-made", GOOD + "\nPARTS['metrics'] = [Metric('always', lambda columns, labels: 1.0, 'max', 0, 1)]\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "Fmhub_Made"\n[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "--fmhub",
        f"--fmhub-backbone={tiny}",
        "-k",
        "own or metrics",
    ]
    loaded = ["-p", "fmhub.testing.pytest_plugin"] if not _is_registered() else []
    done = subprocess.run([*command, *loaded], cwd=tmp_path, env=env(home, (site,)), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "always is 1 whatever is predicted: it ignores its input" in done.stdout
    (tmp_path / "pyproject.toml").unlink()
    done = subprocess.run([*command, *loaded], cwd=tmp_path, env=env(home, (site,)), capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "has no pyproject.toml" in done.stderr


def _is_registered() -> bool:
    """Whether this installation of fmhub is newer than its entry point."""
    from importlib.metadata import entry_points

    return any(point.value == "fmhub.testing.pytest_plugin" for point in entry_points(group="pytest11"))


def test_the_pytest_plugin_costs_others_nothing():
    code = "import sys, fmhub.testing.pytest_plugin; print(sorted({'torch', 'numpy', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"
    assert Path(kit.__file__).parent.name == "testing"


def test_many_rare_labels_survive_the_cut(looked):
    """More rows than are looked at, and labels too rare to be in every part of what is left."""
    code = (
        "def many():\n    import pyarrow as pa\n    rows = remarks(900)\n"
        "    return rows.set_column(1, 'label', pa.array([f'kind {row * 7 % 300}' for row in range(len(rows))]))\n"
        'PARTS["data"] = data.rows(many, text="text", label="label")\nPARTS["head"] = heads.Classification()'
    )
    (outcome,) = looked(code, training_checks.adapter_round_trips)
    assert outcome.ok, outcome
