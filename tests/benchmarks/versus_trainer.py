"""fmhub and the canonical recipe (peft + transformers' Trainer with dynamic padding) side by side, whole jobs in fresh processes.

    python tests/benchmarks/versus_trainer.py [--rows 768] [--epochs 3] [--rounds 3]

Same rows, same LoRA shape, same batch size, same learning-rate schedule, same readings of validation and test, and what the last step
leaves is scored, as the Trainer does. Rounds are interleaved, so that a machine that gets slower or faster harms all alike; quote the
ratios. A round takes about 6 minutes on 2 cores; minilm-l6 and fmhub-text are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BF16 = "recipe.precision=bf16"
ARMS = {
    "trainer": [],
    "trainer, bf16": [BF16],
    "all layers": ["recipe.lora.layers=all"],
    "last 3": ["recipe.lora.layers=last:3"],
    "last 2": ["recipe.lora.layers=last:2"],
    "last 1": ["recipe.lora.layers=last:1"],
    "last 3, second seed": ["recipe.lora.layers=last:3", "recipe.seed=1"],
    "last 2, second seed": ["recipe.lora.layers=last:2", "recipe.seed=1"],
    "last 1, second seed": ["recipe.lora.layers=last:1", "recipe.seed=1"],
    "last 2, one seed more": ["recipe.lora.layers=last:2", "recipe.seed=1", "--seeds=2"],
    "all layers, bf16": ["recipe.lora.layers=all", BF16],
    "last 3, bf16": ["recipe.lora.layers=last:3", BF16],
    "last 2, bf16": ["recipe.lora.layers=last:2", BF16],
    "last 2, bf16, second seed": ["recipe.lora.layers=last:2", BF16, "recipe.seed=1"],
    "last 1, bf16": ["recipe.lora.layers=last:1", BF16],
    "last 1, bf16, second seed": ["recipe.lora.layers=last:1", BF16, "recipe.seed=1"],
}
"""A second seed, in a process of its own, reads the cache that the round's first one has filled; of two in one process the
second seed's share is shown. bfloat16 is quicker only on processors that have it (AVX512-BF16, AMX)."""
SHARES = {"last 2, one seed more": "last 2, second seed"}
"""Arms whose seconds are what they take more than another."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("rows", 768), ("test", 1000), ("epochs", 3), ("rounds", 3), ("rank", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(table(measure(options, Path(place)), sgemm()))


def measure(options: Any, place: Path) -> dict[str, list[dict[str, Any]]]:
    """One mapping a round for every arm: wall seconds, training samples/s, accuracy with its interval, peak bytes."""
    backbone = prepare(options, place)
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in options.arms}
    for round_ in range(options.rounds):
        home = place / f"home-{round_}"
        home.mkdir()
        (home / "backbones").symlink_to(backbone.parent.parent)
        for arm in options.arms:
            start = time.monotonic()
            own = run_trainer(options, place, backbone, arm) if arm.startswith("trainer") else run_fmhub(options, place, home, ARMS[arm])
            whole = time.monotonic() - start
            found[arm].append({**own, "seconds": whole - (found[SHARES[arm]][-1]["seconds"] if arm in SHARES else 0)})
            print(f"round {round_ + 1} {arm}: {found[arm][-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def prepare(options: Any, place: Path) -> Path:
    """Write the rows that every arm reads; the folder of the weights."""
    import pyarrow as pa
    import pyarrow.csv

    from fmhub import backbones, hub
    from fmhub.data.parts import limit

    splits = hub.task("sentiment")[0].data.load().tables
    sizes = {"train": options.rows, "validation": max(32, options.rows // 8), "test": options.test}
    parts = [limit(splits[name], size).select(["text", "target"]) for name, size in sizes.items()]
    names = pa.array([name for name, part in zip(sizes, parts, strict=True) for _ in range(len(part))])
    pyarrow.csv.write_csv(pa.concat_tables(parts).append_column("split", names), place / "rows.csv")
    return backbones.card("minilm-l6").fetch()


def run_fmhub(options: Any, place: Path, home: Path, settings: list[str]) -> dict[str, Any]:
    shared = [f"epochs={options.epochs}", f"lr={options.lr}", f"lora.rank={options.rank}", "patience=0", "keep=last", "length=256"]
    settings = [f"recipe.{one}" for one in shared] + settings
    sets = [word for one in settings for word in ([one] if one.startswith("--") else ["--set", one])]
    columns = ["--columns", "text=text,label=target,split=split"]
    command = ["run", "text-classification", "--data", str(place / "rows.csv"), *columns, *sets, "--no-baseline", "--json", "--quiet"]
    record = start([sys.executable, "-m", "fmhub", *command], FMHUB_HOME=str(home), FMHUB_OFFLINE="1")
    cost, score = record["cost"], record["scores"]["test"]["accuracy"]
    return {"rate": cost["samples_per_second"], "memory": cost["peak_memory_bytes"], **score}


def run_trainer(options: Any, place: Path, backbone: Path, arm: str) -> dict[str, Any]:
    values = {
        "rows": str(place / "rows.csv"), "backbone": str(backbone), "epochs": options.epochs, "lr": options.lr, "rank": options.rank,
        "bf16": BF16 in ARMS[arm],
    }  # fmt: skip
    return start([sys.executable, str(Path(__file__).with_name("trainer.py")), json.dumps(values)], HF_HUB_OFFLINE="1")


def start(command: list[str], **more: str) -> dict[str, Any]:
    done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sgemm() -> float:
    """The machine's measured peak of float32 matrix products, in operations a second."""
    import torch

    one, other = torch.rand(2048, 2048), torch.rand(2048, 2048)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        one @ other
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def table(found: dict[str, list[dict[str, Any]]], peak: float) -> str:
    """One line an arm: medians over the rounds, and the median of the ratios to the trainer within a round."""
    base = found.get("trainer") or next(iter(found.values()))
    lines = [f"{'':<26}{'job s':>8}{'ratio':>8}{'samples/s':>11}{'MiB':>7}  accuracy"]
    for arm, rounds in found.items():
        middle = {key: statistics.median(row[key] for row in rounds) for key in ("seconds", "rate", "memory")}
        ratio = statistics.median(one["seconds"] / other["seconds"] for one, other in zip(base, rounds, strict=True))
        score = f"{rounds[0]['value']:.3f} [{rounds[0]['low']:.3f}, {rounds[0]['high']:.3f}]"
        lines.append(f"{arm:<26}{middle['seconds']:>8.1f}{ratio:>7.2f}x{middle['rate']:>11.0f}{middle['memory'] / 2**20:>7.0f}  {score}")
    exact = found.get("all layers")
    if exact:
        # 10.6 M weights in its layers, 2 operations forward and 2 backward (inputs only) a weight and token, about 25 tokens a text
        share = statistics.median(row["rate"] for row in exact) * 25 * 4 * 10.6e6 / peak
        lines.append(f"sgemm peak {peak / 1e9:.0f} Gflop/s; training all layers uses about {share:.0%} of it")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
