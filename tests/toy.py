"""A task of a second: 3 random layers, 160 short texts whose label shows in one word. Also a script: `toy.py TINY CSV OUTPUT OPTIONS`."""

from __future__ import annotations

import json
import random
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from fmhub import Lora, Recipe, Task, api, data, heads, hookimpl, hub
from fmhub.evaluation import baselines

RECIPE = Recipe(epochs=3, lr=1e-2, batch=16, patience=0, lora=Lora(rank=2))


def write(path: Path, rows: int = 160, seed: int = 0) -> Path:
    """A csv with text, label, document (4 rows each), site (text) and year (number)."""
    draw = random.Random(seed)
    plain = "day film book news the a was it".split()
    lines = ["text,label,document,site,year"]
    for number in range(rows):
        good = draw.random() < 0.5
        words = [draw.choice(plain) for _ in range(draw.randint(1, 8))]
        words.insert(draw.randrange(len(words) + 1), draw.choice(("good", "fine", "happy") if good else ("bad", "awful", "sad")))
        lines.append(f"{' '.join(words)} {number},{'up' if good else 'down'},d{number // 4},{'abc'[number % 3]},{2000 + draw.randrange(3)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def task(tiny: Path, csv: Path, **changes: Any) -> Task:
    given: dict[str, Any] = {
        "name": "toy", "title": "Toy", "backbone": str(tiny), "head": heads.Classification(), "metrics": ["accuracy", "f1_macro"],
        "data": data.csv(str(csv), text="text", label="label", split=data.Random()), "recipe": RECIPE, "baselines": (baselines.Majority(),),
    }  # fmt: skip
    return Task(**{**given, **changes})


@contextmanager
def registered(one: Task):
    """The task stands in the hub as `local:toy`."""
    module = types.ModuleType("toy_plugin")
    module.fmhub_tasks = hookimpl(lambda: [one], specname="fmhub_tasks")  # type: ignore[attr-defined]
    hub.register(module)
    try:
        yield one
    finally:
        hub.unregister()


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter.safetensors")


def same_end(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same bits."""
    left, right = adapter(one), adapter(other)
    assert left.keys() == right.keys()
    tables = [pq.read_table(folder / "predictions.parquet") for folder in (one, other)]
    return all(torch.equal(left[name], right[name]) for name in left) and tables[0].equals(tables[1])


class Trap:
    """Raises at the n-th optimiser step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        original, self.count = torch.optim.AdamW.step, 0

        def step(optimiser, *arguments, **named):
            self.count += 1
            if self.count == at:
                raise error
            return original(optimiser, *arguments, **named)

        monkeypatch.setattr(torch.optim.AdamW, "step", step)


if __name__ == "__main__":
    from fmhub.training import loop

    loop.CHECKPOINT_SECONDS = 0.0
    tiny, csv, output, options = sys.argv[1:]
    with registered(task(Path(tiny), Path(csv))):
        known = (Path(output) / "plan.json").is_file()
        api.run("toy", **({"resume": output} if known else {"output": output, **json.loads(options)}))
