"""What a run cost: wall and processor seconds, peak memory, parameters, latency."""

from __future__ import annotations

import platform
import resource
import statistics
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fmhub.training.network import Network, Part


class Clock:
    """Wall and processor time since it was made, this process and its children."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.monotonic(), _cpu()

    def read(self) -> dict[str, float]:
        return {"total_seconds": time.monotonic() - self.wall, "cpu_seconds": _cpu() - self.cpu}


def _cpu() -> float:
    return sum(use.ru_utime + use.ru_stime for use in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def peak_memory() -> int:
    """The most bytes this process has held in memory at once, as the system counted them."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def latency(network: Network, part: Part, accelerator: Accelerator, readings: int = 15) -> float:
    """Median milliseconds of one example alone through stem, backbone and head, of at most `readings` examples."""
    import numpy as np
    import torch

    times = []
    with torch.inference_mode():
        for row in range(min(readings, len(part.encoded.lengths))):
            start = time.perf_counter()
            network.head_spec.decode(network.outputs(part, np.array([row])))
            times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 3) if times else 0.0


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Versions, device and threads: what bits depend on."""
    import torch

    names = ("fmhub", "torch", "transformers", "peft", "accelerate", "numpy", "scikit-learn", "tokenizers", "pyarrow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "versions": {name: metadata.version(name) for name in names},
    }
