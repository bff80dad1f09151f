"""Many processes of one run: how they are started, how they find each other, and how one that dies ends them all.

`--processes N` starts N ranks of the same plan in the same run folder; `accelerate launch` starts ranks of the whole command.
Either way rank 0 alone writes and prints, and no step is made before all ranks that were asked for are really there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from fmhub import errors, hub
from fmhub.errors import FmhubError, UsageError
from fmhub.process import collect_later, collect_seldom, keep_memory
from fmhub.runs import folder as run_folder
from fmhub.training import ranks

if TYPE_CHECKING:
    from fmhub.training.plan import Plan

GRACE_SECONDS = 2.0


def count(processes: int) -> int:
    """How many processes this one has to start, 1 for none: as many as the user wants of fmhub, or of Accelerate's launcher.

    `accelerate launch --cpu --num_processes 2` (1.15) prepares a meeting point and starts one process without a word; then we
    start them. Raises `UsageError` for a wrong number.
    """
    if processes < 1:
        raise UsageError(f"--processes {processes} is not allowed: it takes a whole number from 1.")
    if ranks.asked() > 1:
        if processes > 1:
            raise UsageError(f"--processes {processes} inside a launcher of {ranks.asked()} processes: leave one of them out.")
        return 1
    if processes > 1 or not {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ):
        return processes
    import psutil
    from accelerate.commands.launch import launch_command_parser

    with contextlib.suppress(Exception, SystemExit):
        words = psutil.Process().parent().cmdline()
        start = next(i for i, word in enumerate(words) if word.removesuffix(".py").endswith("launch"))  # a command or a module
        chosen, _ = launch_command_parser().parse_known_args(words[start + 1 :])
        if chosen.num_processes:
            return int(chosen.num_processes)
    raise FmhubError("accelerate launch was asked for several processes and started one. Use: fmhub run TASK --processes N")


def launch(plan: Plan, run: str, folder: Path, processes: int, *, quiet: bool, track: str | None = None) -> dict[str, Any]:
    """Run `plan` in `folder` with that many ranks and return the record.

    Raises what a rank raised; where one was killed an `FmhubError` that says how the run goes on.
    """
    from fmhub.training.plan import describe

    if hub.is_local(plan.plugin):
        raise UsageError(f"Task {plan.task.name} is registered in this process only: other processes need it as an installed plugin.")
    job = {"task": plan.full_name, "options": describe(plan.options), "run": run, "folder": str(folder), "quiet": quiet, "track": track}
    with contextlib.ExitStack() as stack:
        notes = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(processes)]
        started = [_start(rank, processes, environment, notes[rank]) for rank, environment in enumerate(_environments(processes))]
        try:
            for one in started:
                assert one.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    one.stdin.write(json.dumps(job).encode() + b"\n")
                    one.stdin.flush()
            ended = _wait(started)
        except BaseException:
            _end(started)
            _mark(folder, "stopped")
            raise
        said = _end(started)
        if any(one.returncode for one in started) and not (folder / "run.json").is_file():  # with a record it is complete
            error = _problem(started, ended, said, notes, f"fmhub run {plan.task.name} --resume {run} --processes {processes}")
            _mark(folder, "failed", str(error))
            raise error
    return run_folder.read_record(folder)


def _environments(processes: int) -> list[dict[str, str]]:
    """What Accelerate reads, for each rank; the machine's threads are divided among them."""
    threads = max(1, len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) // processes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    common = {
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": loopback,
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _start(rank: int, processes: int, environment: Mapping[str, str], notes: IO[bytes]) -> subprocess.Popen[bytes]:
    """A rank in a session of its own: Ctrl-C reaches the launcher alone, which ends them all."""
    return subprocess.Popen(
        [sys.executable, "-c", "from fmhub.training.launch import rank; rank()"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if rank == 0 else notes, start_new_session=True,
    )  # fmt: skip


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until all have ended, or one has failed and the others had a moment to say what they saw; who ended, in order."""
    ended: list[int] = []
    deadline = float("inf")
    while len(ended) < len(started) and time.monotonic() < deadline:
        for rank, one in enumerate(started):
            if rank not in ended and one.poll() is not None:
                ended.append(rank)
                if one.returncode:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        time.sleep(0.02)
    return ended


def _end(started: Sequence[subprocess.Popen[bytes]]) -> list[dict[str, str]]:
    """End all at once, and return what each had to say. Files are written whole or not at all: only the last steps are lost."""
    for one in started:
        one.kill()
    said = []
    for one in started:
        assert one.stdin is not None
        assert one.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            one.stdin.close()
        with one.stdout:
            said.append(json.loads(one.stdout.read() or "{}"))
        one.wait()
    return said


def _mark(folder: Path, status: str, problem: str = "") -> None:
    if (folder / "plan.json").is_file():
        run_folder.write_status(folder, status, problem)


def _problem(
    started: Sequence[subprocess.Popen[bytes]],
    ended: Sequence[int],
    said: Sequence[Mapping[str, str]],
    notes: Sequence[IO[bytes]],
    resume: str,
) -> FmhubError:
    """The one error that explains all: what fmhub said, else who was killed from outside, else who failed first."""
    for answer in said:
        kind = getattr(errors, answer.get("kind", ""), None)
        if isinstance(kind, type) and issubclass(kind, FmhubError):
            known: FmhubError = kind(answer["message"])
            return known
    failed = [number for number in ended if started[number].returncode]
    silent = [number for number in failed if not said[number]]
    number = (silent or failed)[0]
    code, of = started[number].returncode, f"Process {number} of {len(started)}"
    if code < 0:
        why = f"{of} was killed by {signal.Signals(-code).name}{' (out of memory?)' if code == -signal.SIGKILL else ''}."
    else:
        notes[number].seek(0)
        last = notes[number].read().decode(errors="replace").strip().splitlines()[-1:]
        why = f"{of} failed: {said[number].get('message') or ''.join(last) or f'exit code {code}'}"
    error = FmhubError(f"{why}\nThe run can go on: {resume}")
    error.__cause__ = RuntimeError(said[number].get("traceback", ""))
    return error


def rank() -> None:
    """One rank of `launch`: the job is the first line of stdin; how it ended is said on stdout, which nobody else may use."""
    collect_seldom()
    collect_later()
    keep_memory()
    from fmhub.training.execute import execute
    from fmhub.training.plan import Options, make
    from fmhub.training.reporting import Reporter

    answer = os.dup(1)
    os.dup2(2, 1)
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        options = Options(**{name: value for name, value in job["options"].items() if name != "kind"})
        plan = make(job["task"], options)
        execute(plan, job["run"], Path(job["folder"]), Reporter(quiet=job["quiet"], track=job["track"]))
        ranks.leave()
    except BaseException as error:
        message = str(error) if isinstance(error, FmhubError) else f"{type(error).__name__}: {error}"
        said = {"kind": type(error).__name__, "message": message, "traceback": traceback.format_exc()[-20_000:]}
        os.write(answer, json.dumps(said).encode())
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """End without the interpreter's clean-up: it would wait for ranks that may be gone, and threads of theirs can abort it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_launcher() -> None:
    """Stdin ends when the launcher does, however it ended."""
    while os.read(0, 1):
        pass
    os._exit(1)
