"""README.md stays true to the word: its plugin, its commands and its outputs are checked against the house."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli import env, fmhub, fmhub_json

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMS = Path(__file__).parent / "thirdparty" / "fmhub-sms"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def section(title: str) -> list[tuple[str, str]]:
    """The fenced blocks under a heading, as (language, text)."""
    text = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def tasks_table() -> str:
    """What the README's table of tasks must be: a row for every plugin of the directory."""
    from fmhub.home import registry
    from fmhub.plugins import directory

    rows = [directory.read(path) for path in sorted((registry() / "plugins").glob("*.toml"))]
    lines = [f"| `{entry.name}` | {entry.summary} | {', '.join(f'`{task}`' for task in entry.tasks)} |" for entry in rows]
    return "\n".join(["| plugin | what | tasks |", "|---|---|---|", *lines]) + "\n"


def test_the_table_of_tasks_is_that_of_the_directory():
    assert tasks_table() in README, "renew it: python tests/test_readme.py"


@pytest.mark.parametrize("title", ["Run it", "Test it"])
def test_run_it_and_test_it_hold_one_line_each(title):
    ((language, text),) = section(title)
    assert language == "sh" and text.count("\n") == 1
    for path in re.findall(r"(?:\./|registry/)[\w./-]+", text):
        assert (ROOT / path).exists(), path


def test_the_plugin_is_the_one_that_is_tested():
    blocks = dict(section("A task is a plugin")[:2])
    assert blocks["python"] == (SMS / "src" / "fmhub_sms" / "__init__.py").read_text()
    assert blocks["toml"] == (SMS / "pyproject.toml").read_text()


def test_every_command_that_is_named_exists(home):
    words = {tuple(words) for words in re.findall(r"`fmhub ([a-z]+)(?: (show|rm|targets|search)\b)?", README)}
    assert {"run", "report", "predict", "plugins", "doctor", "install", "leaderboard"} <= {first for first, _ in words}
    for command in words:
        fmhub(*filter(None, command), "--help", home=home)


def test_a_stranger_installs_the_plugin_and_runs_it(weights, tmp_path):
    """As the README says, in a folder of its own: pip installs it, fmhub lists it, runs it and predicts with it."""
    shutil.copytree(SMS, tmp_path / "fmhub-sms")
    shutil.copytree(weights, tmp_path / "home")
    site, place = tmp_path / "site", {"home": tmp_path / "home", "path": (tmp_path / "site",)}
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, tmp_path / "fmhub-sms"]
    subprocess.run([*map(str, pip)], check=True, env=env(tmp_path))
    assert "sms-spam" in [row["name"] for row in fmhub_json("tasks", "--json", **place)]
    record = fmhub_json("run", "sms-spam", "--json", **place)
    assert record["task"]["plugin"] == "fmhub-sms" and record["primary"] == "f1_macro"
    assert record["scores"]["test"]["f1_macro"]["value"] > 0.9
    assert fmhub("predict", "sms-spam", "WINNER! Claim your prize now, call 0800 123456.", **place).stdout.startswith("spam")
    # the run outlives its plugin: it is listed, shown and loaded from its own plan
    alone = {"home": tmp_path / "home"}
    assert fmhub_json("runs", "show", record["id"], **alone) == record
    assert fmhub("predict", record["id"], "See you at the station at 8:15?", **alone).stdout.startswith("ham")


def test_the_commands_for_your_own_data_work(weights, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(weights, tmp_path / "home")
    texts = [(f"{'what a fine' if i % 2 else 'such a bad'} thing number {i}", i % 2) for i in range(60)]
    (tmp_path / "reviews.csv").write_text("review,stars\n" + "".join(f"{text},{'up' if up else 'down'}\n" for text, up in texts))
    (tmp_path / "ratings.jsonl").write_text(
        "".join(json.dumps({"review": text, "score": up * 2.0 + i % 3}) + "\n" for i, (text, up) in enumerate(texts))
    )
    table = pa.table({"review": [text for text, _ in texts], "polarity": ["good" if up else "bad" for _, up in texts]})
    pq.write_table(table.slice(0, 48), tmp_path / "mine.parquet")
    pq.write_table(table.slice(48), tmp_path / "held.parquet")
    ((_, commands),) = section("Your own data")
    assert len(commands.splitlines()) == 3
    for line in commands.splitlines():
        words = [str(tmp_path / word) if (tmp_path / word).is_file() else word for word in shlex.split(line)[1:]]
        record = fmhub_json(*words, "--set", "recipe.epochs=1", "--no-baseline", "--json", home=tmp_path / "home")
        assert record["scores"]["test"][record["primary"]]["n"] >= 10


def test_the_python_lines_run(weights, tmp_path):
    shutil.copytree(weights, tmp_path / "home")
    ((language, code),) = section("In Python")
    code += "\nassert score['low'] <= score['value'] <= score['high']\nprint(predictor.predict(['What a fine day.'])[0]['prediction'])"
    done = subprocess.run([sys.executable, "-c", code], env=env(tmp_path / "home"), capture_output=True, text=True, check=False)
    assert language == "python" and done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("positive", "negative")


def test_the_output_shown_is_that_of_the_committed_record(capsys):
    from fmhub.cli.show import summary

    record = json.loads((ROOT / "registry" / "leaderboard" / "fmhub-text" / "sentiment.json").read_text())
    summary(record)
    ((language, text),) = section("What you get")
    assert language == "text" and text == capsys.readouterr().out


if __name__ == "__main__":
    (ROOT / "README.md").write_text(re.sub(r"\| plugin \| what \| tasks \|\n(\|.*\n)+", lambda _: tasks_table(), README), encoding="utf-8")
