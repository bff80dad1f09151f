"""How quickly a board of 1,000 entries over 20 tasks answers on SQLite: the first time, afterwards, and after a new entry.

    python tests/benchmarks/board.py [ENTRIES] [TASKS]

Prints milliseconds; afterwards a page must answer in under 300, of which most is asking the database whether anything is new.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

TRIES = 50


def main(count: int, tasks: int) -> None:
    from fastapi.testclient import TestClient
    from test_board import make_run, predictions

    from fmhub.leaderboard import entries, schema, server, shipped, store

    shipped.kept = dict  # nothing but what is made here
    with tempfile.TemporaryDirectory() as place:
        os.environ["FMHUB_HOME"] = f"{place}/home"

        def made(number: int) -> entries.Scored:
            table = predictions(0.6 + number * 7 % 30 / 100, seed=number + 100, n=100, truth=number % tasks)
            run = make_run(
                Path(place, str(number)), table, run=f"run-{number}", task={"name": f"task-{number % tasks}"}, data={"test": 100}
            )
            return next(entries.from_folder(run))

        with schema.database() as engine, schema.writing(engine) as connection:
            for number in range(count):
                store.insert(connection, made(number))
        client = TestClient(server.app(), base_url="http://127.0.0.1")

        def timed(path: str) -> float:
            begun = time.perf_counter()
            assert client.get(path).status_code == 200
            return 1000 * (time.perf_counter() - begun)

        print(f"{count} entries over {tasks} tasks")
        print(f"the first time      {timed('/'):8.0f} ms")
        for path in ("/", "/board.json"):
            times = sorted(timed(path) for _ in range(TRIES))
            print(f"afterwards {path:12}{statistics.median(times):5.0f} ms, the slowest of {TRIES} {times[-1]:.0f} ms")
        with schema.database() as engine, schema.writing(engine) as connection:
            store.insert(connection, made(count))
        print(f"a new entry came    {timed('/'):8.0f} ms until the last pages are shown, while new ones are made")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*given, *(1000, 20)[len(given) :])
