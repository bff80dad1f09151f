"""`--engine ray`: the trainings of many tasks, seeds and folds spread over a Ray cluster whose machines share `FMHUB_HOME`.

A training is a member of its run and lies in the run's folder, done or to go on with. So a Ray task that is lost is started
again and resumes; and the last one of a run finds every member done, scores them all and writes the record, once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from fmhub import errors, hub
from fmhub.errors import FetchError, FmhubError, Stopped, UsageError
from fmhub.runs import folder as run_folder
from fmhub.training.plan import Options, Plan, describe, make
from fmhub.training.reporting import Reporter

RETRIES = 3
"""Of a Ray task whose process died or that raised what fmhub does not explain; what it explains would happen again."""


class Helper(Reporter):
    """Of a process that trains one member: it logs, and leaves beginning and end of the run to others."""

    def started(self, run: Mapping[str, Any]) -> None:
        self.run, self.log_path = dict(run), Path(run["folder"]) / "log.jsonl"


def spread(plans: Sequence[Plan], *, quiet: bool = True) -> list[dict[str, Any] | FmhubError]:
    """Run every plan on the cluster of `RAY_ADDRESS`, or on one of this machine; a record, or what went wrong, for each plan.

    Raises `UsageError` without the package ray, `Stopped` on Ctrl-C.
    """
    for plan in plans:
        if hub.is_local(plan.plugin):
            raise UsageError(f"Task {plan.task.name} is registered in this process only: a cluster needs it as an installed plugin.")
    with _cluster() as ray:
        options = {"max_retries": RETRIES, "retry_exceptions": True, "num_gpus": 1 if ray.cluster_resources().get("GPU") else 0}
        train, finish = ray.remote(**options)(_train), ray.remote(**options)(_finish)
        jobs: list[dict[str, Any]] = []
        last: dict[Any, dict[str, Any]] = {}
        for plan in plans:
            run, folder = run_folder.create(plan.task.name)
            job = {"task": plan.full_name, "options": describe(plan.options), "run": run, "folder": str(folder)}
            jobs.append(job)
            begun = train.remote(job, 0, 0, None)  # data, weights and decisions, before many ask for them at once
            members = [train.remote(job, index, index + 1, begun) for index in range(_count(plan))]
            last[finish.remote(job, *members)] = job
        results = _collect(ray, last, quiet)
    return [results[job["run"]] for job in jobs]


def _count(plan: Plan) -> int:
    """How many members a plan has, but for the refit, which waits for the folds."""
    return plan.options.seeds * ((plan.folds or 1) + len(plan.options.curve))


def _collect(ray: Any, last: dict[Any, dict[str, Any]], quiet: bool) -> dict[str, dict[str, Any] | FmhubError]:
    results: dict[str, dict[str, Any] | FmhubError] = {}
    try:
        while left := [reference for reference, job in last.items() if job["run"] not in results]:
            for reference in ray.wait(left)[0]:
                job = last[reference]
                results[job["run"]] = _result(ray, reference, job)
                if not quiet:
                    what = "failed" if isinstance(results[job["run"]], FmhubError) else "done"
                    print(f"{job['run']} is {what}: {len(results)} of {len(last)}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        ids = [job["run"] for job in last.values() if job["run"] not in results]
        for job in last.values():
            if job["run"] in ids and (Path(job["folder"]) / "plan.json").is_file():
                run_folder.write_status(Path(job["folder"]), "stopped")
        raise Stopped(f"Stopped. Each of {', '.join(ids)} goes on with: fmhub run TASK --resume RUN") from None
    return results


def _result(ray: Any, reference: Any, job: Mapping[str, Any]) -> dict[str, Any] | FmhubError:
    folder = Path(job["folder"])
    try:
        problem = ray.get(reference)
    except ray.exceptions.RayError as error:
        text = str(error).strip().splitlines()[-1]
        problem = {"kind": "FmhubError", "message": f"Run {job['run']} failed {1 + RETRIES} times on the cluster: {text}"}
    if problem is None:
        return run_folder.read_record(folder)
    run_folder.discard_if_empty(str(job["run"]), folder)
    if (folder / "plan.json").is_file():
        run_folder.write_status(folder, "failed", problem["message"])
    kind: type[FmhubError] = getattr(errors, problem["kind"], FmhubError)
    return kind(f"{job['task']}: {problem['message']}")


@contextmanager
def _cluster() -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs the package ray, which is not installed: pip install 'fmhub[ray]'") from None
    passed = {name: value for name, value in os.environ.items() if name.startswith(("FMHUB_", "HF_", "OMP_NUM_THREADS"))}
    own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": passed}, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise FmhubError(f"No Ray cluster: {str(error).splitlines()[0]}") from None
    try:
        with redirect_stdout(sys.stderr):  # Ray speaks of lost workers on stdout, which holds the record
            yield ray
    finally:
        ray.shutdown()


def _train(job: Mapping[str, Any], first: int, end: int, begun: dict[str, str] | None) -> dict[str, str] | None:
    """Train members `first` to `end` (none: only begin) of a run; None, or what went wrong."""
    return begun or _explained(job, Helper(quiet=True), slice(first, end))


def _finish(job: Mapping[str, Any], *members: dict[str, str] | None) -> dict[str, str] | None:
    """Score and record a run whose members are trained; a second time changes nothing."""
    if problem := next(filter(None, members), None):
        return problem
    if (Path(job["folder"]) / "run.json").is_file():
        return None
    return _explained(job, Reporter(quiet=True), None)


def _explained(job: Mapping[str, Any], reporter: Reporter, share: slice | None) -> dict[str, str] | None:
    from fmhub.training.execute import execute

    options = {name: value for name, value in job["options"].items() if name != "kind"}
    try:
        execute(make(job["task"], Options(**options)), job["run"], Path(job["folder"]), reporter, share)
    except FetchError:
        raise  # another try may find the source awake
    except FmhubError as error:
        return {"kind": type(error).__name__, "message": str(error)}
    return None
