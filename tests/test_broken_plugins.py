"""Whatever one plugin does, the others work, and it is said what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fmhub import hub
from fmhub.cli import main

GOOD = """
@hookimpl
def fmhub_tasks():
    yield task("fine")
"""

BROKEN = {
    "import-error": ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    "syntax-error": ("def broken(:\n", "SyntaxError: "),
    "system-exit": ("import sys; sys.exit(3)", "it called exit(3)"),
    "wrong-argument": ("@hookimpl\ndef fmhub_tasks(colour): return []", "colour"),
    "unknown-hook": ("@hookimpl\ndef fmhub_taks(): return []", "fmhub_taks"),
    "raises-late": ("@hookimpl\ndef fmhub_tasks(): return [task('late'), 1 / 0]", "ZeroDivisionError: division by zero"),
    "wrong-type": ("@hookimpl\ndef fmhub_tasks(): yield 'sentiment'", "gave a str where a Task belongs"),
    "gives-none": ("@hookimpl\ndef fmhub_tasks(): pass", "fmhub_tasks() gave None"),
    "raising-generator": ("@hookimpl\ndef fmhub_tasks():\n    yield task('one')\n    raise KeyError('two')", "KeyError: 'two'"),
    "double-task": ("@hookimpl\ndef fmhub_tasks(): return [task('same'), task('same')]", "declares task same more than once"),
    "no-hook": ("def fmhub_tasks(): return []", "it implements no hook"),
}
MORE = {
    "one-task": ("@hookimpl\ndef fmhub_tasks(): return task('alone')", "gave a Task, not a list"),
    "text-tasks": ("@hookimpl\ndef fmhub_tasks(): return 'sentiment'", "gave a str, not a list"),
    "bad-name": ("@hookimpl\ndef fmhub_tasks(): yield task('../up')", "not a valid name"),
    "no-metric": ("@hookimpl\ndef fmhub_tasks(): yield Task(name='t', title='', data=Part(), head=Part(), metrics=[])", "names no metric"),
    "endless": ("@hookimpl\ndef fmhub_tasks():\n    while True: yield task('again')", "gives more than 1000"),
    "other-api": ("fmhub_api = (2, 0)\n@hookimpl\ndef fmhub_tasks(): return []", "it needs plugin API 2.0, and this fmhub has 1.0"),
    "later-api": ("fmhub_api = (1, 1)\n@hookimpl\ndef fmhub_tasks(): return []", "it needs plugin API 1.1"),
    "odd-api": ("fmhub_api = 1.0\n@hookimpl\ndef fmhub_tasks(): return []", "fmhub_api is 1.0"),
    "bad-card": ("@hookimpl\ndef fmhub_backbones(): yield 7", "gave a int where a card belongs"),
    "base-exception": ("class Odd(BaseException): pass\nraise Odd('x')", "Odd: x"),
    "generator-exit": ("raise GeneratorExit", "GeneratorExit"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
}


@pytest.mark.parametrize("name", [*BROKEN, *MORE])
def test_each_is_quarantined_with_its_reason(name: str, distribution: Callable[..., str]) -> None:
    code, reason = {**BROKEN, **MORE}[name]
    distribution("fmhub-good", GOOD)
    module = distribution(f"fmhub-{name}", code)
    broken = {plugin.name: plugin for plugin in hub.plugins()}[f"fmhub-{name}"]
    assert broken.status == "broken"
    assert reason in str(broken.problem)
    assert "\n" not in str(broken.problem)
    assert broken.mend
    assert "Traceback" in broken.traceback
    assert broken.tasks == ()
    assert broken.file.endswith(f"{module}.py")
    assert hub.task("fine")[1].name == "fmhub-good"
    with pytest.raises(hub.UsageError, match="is broken"):
        hub.plugin(f"fmhub-{name}")


def test_ctrl_c_is_not_swallowed(distribution: Callable[..., str]) -> None:
    distribution("fmhub-c", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        hub.plugins()


def test_eleven_beside_a_good_one(distribution: Callable[..., str], home: Path) -> None:
    """As a user sees it: the good one's tasks on stdout, every reason on stderr, exit code 0."""
    distribution("fmhub-good", GOOD)
    for name, (code, _) in BROKEN.items():
        distribution(f"fmhub-{name}", code)
    distribution("fmhub-twin-a", GOOD.replace("fine", "left"), point="twin")
    distribution("fmhub-twin-b", GOOD.replace("fine", "right"), point="twin")
    done = subprocess.run([sys.executable, "-m", "fmhub", "tasks", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"fine", "left", "right"} <= {row["name"] for row in json.loads(done.stdout)}
    for name, (_, reason) in BROKEN.items():
        assert [line for line in done.stderr.splitlines() if f"fmhub-{name} " in line and reason in line], name
    assert "entry-point name 'twin' is claimed by fmhub-twin-a and fmhub-twin-b: both are kept" in done.stderr
    listed = subprocess.run([sys.executable, "-m", "fmhub", "plugins"], capture_output=True, text=True, check=False)
    assert listed.returncode == 0
    assert all(reason in listed.stdout for _, reason in BROKEN.values())
    doctor = subprocess.run([sys.executable, "-m", "fmhub", "doctor", "--quick"], capture_output=True, text=True, check=False)
    assert doctor.returncode == 1
    assert doctor.stdout.count("Traceback") == len(BROKEN)
    assert doctor.stdout.count("Mend:") >= len(BROKEN)


HANGS = {
    "sleeps": "import time; time.sleep(600)",
    "spins": "while True: pass",
    "waits": "import threading; threading.Event().wait()",
    "swallows": "import time\nfor _ in range(4):\n    try: time.sleep(600)\n    except BaseException: pass\nwhile True: pass",
    "generates": "@hookimpl\ndef fmhub_tasks():\n    import time; time.sleep(600)\n    yield",
}


@pytest.mark.parametrize("name", HANGS)
def test_a_hang_is_cut_short_and_named(name: str, distribution: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_PLUGIN_SECONDS", "0.3")
    distribution("fmhub-good", GOOD)
    distribution(f"fmhub-{name}", HANGS[name])
    found = {plugin.name: plugin for plugin in hub.plugins()}
    assert found[f"fmhub-{name}"].problem == "it did not load within 0.3 s"
    assert hub.task("fine")


def test_three_hangs_are_answered_within_ten_seconds(distribution: Callable[..., str]) -> None:
    distribution("fmhub-good", GOOD)
    for name in ("aa", "bb", "zz"):
        distribution(f"fmhub-{name}", HANGS["sleeps"])
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "fmhub", "tasks"], capture_output=True, text=True, check=False)
    assert time.monotonic() - start < 10
    assert done.returncode == 0
    assert "fine" in done.stdout
    assert all(f"Plugin fmhub-{name} 1.0 is quarantined: it did not load within" in done.stderr for name in ("aa", "bb", "zz"))


def test_a_busy_machine_is_not_the_plugins_fault(distribution: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of work in a plugin that may take one, while six others want the same core."""
    monkeypatch.setenv("FMHUB_PLUGIN_SECONDS", "1")
    distribution("fmhub-works", "import time\nuntil = time.process_time() + 0.5\nwhile time.process_time() < until: pass\n" + GOOD)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        done = subprocess.run([sys.executable, "-m", "fmhub", "tasks"], capture_output=True, text=True, check=False)
    finally:
        os.sched_setaffinity(0, cores)
        for other in others:
            other.kill()
            other.wait()
    assert "fmhub-works" not in done.stderr and "fine" in done.stdout


def test_the_callers_alarm_is_given_back(distribution: Callable[..., str]) -> None:
    import signal

    distribution("fmhub-good", GOOD)
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 500)
        hub.plugins()
        assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_loads_in_another_thread(distribution: Callable[..., str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    distribution("fmhub-good", GOOD)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(hub.task, "fine").result()[0].name == "fine"


def test_what_a_plugin_prints_does_not_spoil_json(distribution: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    distribution("fmhub-loud", "print('hello')\n" + GOOD)
    assert main(["tasks", "--json"]) == 0
    captured = capsys.readouterr()
    assert "fine" in [row["name"] for row in json.loads(captured.out)]
    assert "hello" in captured.err
