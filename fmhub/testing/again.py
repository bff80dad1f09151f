"""The second process: another hash seed, sockets closed, `FMHUB_OFFLINE` set. It loads, trains and predicts as the first one did.

`python -m fmhub.testing.again PLUGIN TASK BACKBONE` prints JSON: `fingerprint`, `digest`, `sockets` (attempts), `error`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from fmhub.testing import sockets


def seen(plugin: str, task: str, backbone: str | None) -> dict[str, Any]:
    """What a process of its own sees of a task; `error` says why it ended early."""
    environment = {**os.environ, "PYTHONHASHSEED": "271828", "FMHUB_OFFLINE": "1", "FMHUB_PLUGIN_SECONDS": "30"}
    command = [sys.executable, "-P", "-m", __name__, plugin, task, backbone or ""]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or f"exit code {done.returncode}, no message").splitlines()[-1]
        return {"error": last[:300], "sockets": []}
    return found


def main() -> None:
    """See the module; what anything prints goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    name, task, backbone = sys.argv[1:]
    from fmhub import hub

    points = hub.installed()[name][1]
    os.environ["FMHUB_DISABLE_PLUGINS"] = ",".join(hub.installed().keys() - {name})  # their attempts are not this one's
    found: dict[str, Any] = {"sockets": sockets.close(sockets.roots(points)), "error": ""}
    try:
        found.update(_look(name, task, backbone or None))
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    os.write(out, json.dumps(found).encode())


def _look(name: str, task: str, backbone: str | None) -> dict[str, Any]:
    from fmhub import hub
    from fmhub.testing.subject import subject

    plugin = hub.plugin(name)
    with subject(plugin, next(one for one in plugin.tasks if one.name == task), backbone) as it:
        return {"fingerprint": it.whole.fingerprint, "digest": it.digest(it.short("again"))}


if __name__ == "__main__":
    main()
