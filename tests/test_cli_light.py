"""The command line: light, lazy, and plain when something is wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from fmhub import cli, hub
from fmhub.cli import main, output
from fmhub.errors import FmhubError, Stopped

HEAVY = "torch transformers datasets evaluate peft accelerate pandas sklearn numpy pyarrow sqlalchemy scipy tokenizers fastapi ray".split()
GOOD = "@hookimpl\ndef fmhub_tasks(): yield task({!r})\n"
SPY = """
import json, sys
from fmhub.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def modules(*arguments: str) -> set[str]:
    """What a process has imported after `fmhub ARGUMENTS`, which must end well."""
    done = subprocess.run([sys.executable, "-c", SPY, *arguments], capture_output=True, text=True, check=True)
    code, found = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(found)


def cpu_seconds(*commands: list[str]) -> list[float]:
    """The least CPU time of seven runs of each command, in turns: the noise of a shared machine only adds."""
    spent: list[list[float]] = [[] for _ in commands]
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(7):
        for command, times in zip(commands, spent, strict=True):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *command], capture_output=True, check=True, env=given)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return [min(times) for times in spent]


@pytest.mark.parametrize("arguments", [["--help"], ["tasks"], ["tasks", "--json"], ["plugins"], ["plugins", "search"], ["info", "fine"]])
def test_listing_imports_nothing_heavy(arguments: list[str], distribution: Callable[..., str]) -> None:
    distribution("fmhub-good", GOOD.format("fine"))
    assert not modules(*arguments) & set(HEAVY)


def test_help_imports_no_command() -> None:
    found = modules("--help")
    assert {name for name in found if name.startswith("fmhub.cli")} == {"fmhub.cli"}
    assert "rich" not in found


@pytest.mark.parametrize(("arguments", "most"), [(["--help"], 3.5), (["tasks"], 6)])
def test_costs_little_more_than_click_and_pluggy(arguments: list[str], most: float) -> None:
    least, ours = cpu_seconds(["-c", "import click, pluggy"], ["-m", "fmhub", *arguments])
    print(f"fmhub {arguments[0]}: {ours:.3f} CPU s, {ours / least:.1f} times `import click, pluggy`")
    assert ours < most * least


@pytest.mark.parametrize(("entry", "ours"), [("__main__ import process", True), ("cli import main as process", False)])
def test_the_collector_is_spared_in_a_process_of_ours_alone(entry: str, ours: bool) -> None:
    code = f"""
import atexit, gc
from fmhub.{entry}
before = gc.get_threshold()
atexit.register(lambda: print(gc.get_threshold() != before))
process()
"""
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [str(ours)]


LEAVE = """
import atexit, sys, threading, time
from fmhub.process import leave
class Kept:
    def __del__(self): print("taken apart")
kept = Kept()
atexit.register(print, "registered")
{}
print("said", end=" ")
leave(3)
"""


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ("", "said registered\n"),
        ("threading.Thread(target=time.sleep, args=[60], daemon=True).start()", "said registered\n"),
        ("threading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start()", "said done\nregistered\ntaken apart\n"),
    ],
    ids=["alone", "beside a daemon", "beside others"],
)
def test_a_process_of_ours_ends_at_once_unless_others_are_at_work(others: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE.format(others)], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (3, expected, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_cannot_be_written_at_the_end_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", LEAVE.format("")], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode not in (0, 3) and "No space left" in done.stderr


@pytest.mark.parametrize("ours", [True, False])
def test_no_cycles_are_looked_for_while_a_runs_imports_come(ours: bool) -> None:
    code = f"""
import gc
from fmhub import process
{ours} and process.collect_seldom()
process.collect_later()
print(gc.isenabled(), gc.get_freeze_count() > 0)
process.settle()
kept = gc.get_freeze_count()
print(gc.isenabled(), kept > 0)
left = [[] for _ in range(100)]
process.settle()
print(gc.get_freeze_count() <= kept)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(not ours), "False", "True", str(ours), "True"]


def test_large_tensors_of_a_run_are_in_huge_pages_where_the_system_gives_them() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    given = setting.is_file() and "[never]" not in setting.read_text()
    code = """
from pathlib import Path
from fmhub.process import keep_memory
keep_memory()
import torch
held = torch.ones(1 << 24)
found = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("AnonHugePages")]
print(int(found[0].split()[1]) >= 32 << 10)
"""
    if given:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="another C library")
@pytest.mark.parametrize(("kernels", "expected"), [("", "512"), ("7", "7")])
def test_a_run_keeps_what_it_has_freed_and_few_kernels(kernels: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import os, resource
from fmhub.process import keep_memory
keep_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(20 << 20) for _ in range(5)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], faults() > 20_000, faults() < 1_000)
"""
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    if kernels:
        monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", kernels)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "True", "True"]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from fmhub.process import keep_memory

    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory()


def test_fifty_plugins(distribution: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    house = [plugin.name for plugin in hub.plugins()]
    hub.refresh()
    for number in range(50):
        distribution(f"fmhub-made-{number}", GOOD.format(f"made-{number}"), requires=["fmhub>=0.0.1"])
    assert len([plugin for plugin in hub.plugins() if plugin.name.startswith("fmhub-made-") and plugin.status == "ok"]) == 50
    monkeypatch.setenv("FMHUB_DISABLE_PLUGINS", ",".join(house))  # what fifty cost, whatever else is installed here
    least, ours = cpu_seconds(["-c", "import click, pluggy"], ["-m", "fmhub", "tasks"])
    print(f"fmhub tasks with 50 plugins: {ours:.3f} CPU s, {ours / least:.1f} times `import click, pluggy`")
    assert ours < 8 * least


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: fmhub {name}")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["tsks"], "Error: No command 'tsks'. Did you mean tasks?\nTry: fmhub --help\n"),
        (["tasks", "--jsn"], "--json"),
        (["tasks", "extra"], "Error: Got unexpected extra argument (extra)\nTry: fmhub tasks --help\n"),
        (["info"], "Error: Missing argument 'NAME'.\nTry: fmhub info --help\n"),
        (["info", "minilm-l66"], "Did you mean minilm-l6"),
        (["plugins", "serch"], "serch"),
        (["install"], "Error: Name one or more plugins, or --all."),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_two_lines_and_code_2(arguments: list[str], lines: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert lines in captured.err
    assert len(captured.err.splitlines()) <= 2


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make `fmhub tasks` raise."""

    def raising(error: BaseException) -> None:
        def body() -> None:
            raise error

        monkeypatch.setattr(cli.Lazy, "get_command", lambda *_: click.Command("tasks", callback=body))

    return raising


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (FmhubError("It failed."), 1, "Error: It failed.\n"),
        (Stopped("Stopped. Go on with X"), Stopped.exit_code, "Stopped. Go on with X\n"),
        (KeyboardInterrupt(), 1, "Error: stopped by Ctrl-C.\n"),
        (click.Abort(), 1, "Error: stopped by Ctrl-C.\n"),
        (RuntimeError("odd\nand long"), 1, "Error: RuntimeError: odd\nThis is a fault of fmhub or of a plugin: `--debug` shows where.\n"),
        (RuntimeError(), 1, "Error: RuntimeError: no message\nThis is a fault of fmhub or of a plugin: `--debug` shows where.\n"),
    ],
)
def test_errors_are_plain(
    error: BaseException, code: int, said: str, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(error)
    assert main(["tasks"]) == code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("arguments", [["--debug", "tasks"], ["tasks", "--debug"]])
def test_debug_shows_the_traceback(arguments: list[str], command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command(FmhubError("It failed."))
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("Error: It failed.\n")


def test_debug_after_two_dashes_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--", "--debug"]) == 2
    assert "'--debug'" in capsys.readouterr().err


def test_ctrl_c_while_a_plugin_loads(distribution: Callable[..., str], tmp_path: Path) -> None:
    distribution("fmhub-slow", f"import time; open({str(tmp_path / 'here')!r}, 'w').close(); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-m", "fmhub", "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (tmp_path / "here").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (1, "", "Error: stopped by Ctrl-C.\n")


def test_a_reader_that_leaves_is_no_error(distribution: Callable[..., str]) -> None:
    distribution("fmhub-many", "@hookimpl\ndef fmhub_tasks():\n    for n in range(999): yield task(f't-{n}' + 'x' * 50)\n")
    process = subprocess.Popen([sys.executable, "-m", "fmhub", "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141
    process.stderr.close()


def test_commands_of_plugins(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import click\n@click.command()\ndef command(): click.echo('blue')\n"
    distribution("fmhub-sky", "print('imported')\n" + code, point="colour", group="fmhub.commands")
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert "colour" in listed
    assert "from fmhub-sky" in listed
    assert "imported" not in listed
    assert main(["colour"]) == 0
    assert "blue" in capsys.readouterr().out
    monkeypatch.setenv("FMHUB_DISABLE_PLUGINS", "fmhub-sky")
    assert main(["colour"]) == 2


def test_commands_of_plugins_that_cannot_be(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    distribution("fmhub-none", "", point="gone", group="fmhub.commands")
    distribution("fmhub-exits", "raise SystemExit(0)", point="exits", group="fmhub.commands")
    distribution("fmhub-odd", "command = 7", point="odd", group="fmhub.commands")
    distribution("fmhub-thief", "raise AssertionError", point="tasks", group="fmhub.commands")
    for name in ("one", "two"):
        distribution(f"fmhub-{name}", "command = 7", point="both", group="fmhub.commands")
    for name, said in {
        "gone": "plugin fmhub-none cannot be loaded: AttributeError",
        "exits": "plugin fmhub-exits cannot be loaded: SystemExit",
        "odd": "plugin fmhub-odd is not a click command",
        "both": "is claimed by fmhub-one, fmhub-two",
    }.items():
        assert main([name]) == 1
        assert said in capsys.readouterr().err
    assert main(["tasks"]) == 0


def test_info_of_each_kind(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    distribution("fmhub-good", GOOD.format("fine"))
    for name, kind in {
        "fine": "task",
        "fmhub-good:fine": "task",
        "minilm-l6": "backbone",
        "fmhub-good": "plugin",
        "fmhub-text": "plugin",
    }.items():
        assert main(["info", name, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["kind"] == kind
        assert found["name"] == name.rpartition(":")[2]
        assert main(["info", name]) == 0
        assert capsys.readouterr().out.split()[:2] == ["kind", kind]
    assert main(["info", "fmhub-good:nine"]) == 2
    assert "Did you mean fine?" in capsys.readouterr().err


def test_info_shows_the_recipe(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    distribution("fmhub-good", "@hookimpl\ndef fmhub_tasks(): yield task('fine', recipe=Recipe(lr=0.5), licence='CC0')\n")
    assert main(["info", "fine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"]["lr"], found["licence"], found["metrics"], found["plugin"]) == (0.5, "CC0", ["accuracy"], "fmhub-good")


def test_backbones_are_listed_with_what_is_fetched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["minilm-l6"]["parameters"] == 22_713_216
    assert rows["minilm-l6"]["fetched"] is False
    assert main(["backbones"]) == 0
    assert "22.7 M" in capsys.readouterr().out


def test_plugins_and_search(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    distribution("fmhub-good", GOOD.format("fine"))
    assert main(["plugins", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["fmhub-good"]["tasks"] == ["fine"]
    assert rows["fmhub-good"]["problem"] is None
    assert main(["plugins", "search", "sentiment", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["fmhub-text"]
    assert main(["plugins", "search", "no-such-thing"]) == 0
    assert "Nothing in the directory" in capsys.readouterr().out


def test_two_tasks_of_one_name_are_shown_in_full(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    distribution("fmhub-a", GOOD.format("same"))
    distribution("fmhub-b", GOOD.format("same"))
    assert main(["tasks"]) == 0
    captured = capsys.readouterr()
    assert "fmhub-a:same" in captured.out
    assert "fmhub-b:same" in captured.out
    assert "use full names" in captured.err


def test_tables_are_whole_and_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a", "b"), [("x" * 300, "\x1b[31mred\n"), (None, ["u", "v"])])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "x" * 300 in lines[1]
    assert "\x1b" not in lines[1]
    assert lines[2].strip() == "u, v"


def test_a_terminal_gets_a_drawn_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.table(("task", "title"), [("one", "[bold]kept as it is[/]")])
    assert "[bold]kept as it is[/]" in capsys.readouterr().out


OWN_METRIC = """
from fmhub.evaluation import Metric
metric = Metric("misses", lambda columns, labels: float((columns["prediction"] != columns["target"]).mean()), "min", 0, 1)
@hookimpl
def fmhub_tasks():
    yield Task(name="own", title="Own", data=Part(), head=Part(), metrics=[metric])
"""


@pytest.mark.parametrize(("installed", "said"), [(True, "adapter better: -0.300"), (False, "adapter minus it: -0.300")])
def test_a_run_by_a_plugins_own_metric_is_summed_up(
    installed: bool, said: str, distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The metric's own direction decides what is better; where the plugin is gone, the difference alone is shown."""
    from fmhub.cli.show import summary

    if installed:
        distribution("fmhub-own", OWN_METRIC)
    record = json.loads((Path(__file__).parent.parent / "registry" / "leaderboard" / "fmhub-text" / "sentiment.json").read_text())
    score, gap = {"value": 0.1, "low": 0.05, "high": 0.2, "n": 9}, {"value": -0.3, "low": -0.4, "high": -0.2}
    record["task"] |= {"plugin": "fmhub-own", "name": "own"}
    record |= {"primary": "misses", "scores": {"test": {"misses": score}}, "groups": None}
    record["baselines"] = [{"name": "simple", "scores": {"test": {"misses": score}}, "difference": gap}]
    summary(record)
    assert said in capsys.readouterr().out
