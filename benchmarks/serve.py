"""Load on `onceseen serve`: requests a second, p50 and p99 at 1, 8 and 32 clients, against a plain loop.

    python benchmarks/serve.py [--seconds 10] [--clients 1,8,32] > serve.json

Half of the bundled photographs are deduplicated; queries are, by turns, photographs that the reference has not, copies
of those that it has (a crop of 20 % of the area, JPEG 30), and the very files. The plain loop is `Reference.check`, one
query after the other, in this process and in the same run; `ratio` is the server's requests a second over the loop's.
The server is the command itself in a process of its own, clients are threads of this one with a connection each: on
few cores they take time from the server. Prints JSON.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector import PHOTOS, copy_of, deduplicate, scenes
from onceseen import Reference
from onceseen.core.cores import available_cores

MIX = ("unknown", "crop20", "jpeg30", "original")


def queries(own: Sequence[str], other: Sequence[str], count: int) -> list[tuple[str, bytes]]:
    """Queries by turns of `MIX`."""
    made = []
    for number, kind in zip(range(count), itertools.cycle(MIX), strict=False):
        if kind == "unknown":
            made.append((kind, (PHOTOS / f"{other[number % len(other)]}.jpg").read_bytes()))
        else:
            made.append((kind, copy_of(own[number % len(own)], kind, [])))
    return made


def plain_loop(run: Path, asked: Sequence[tuple[str, bytes]], seconds: float) -> dict[str, Any]:
    """`Reference.check` one by one."""
    reference = Reference.open(run, progress=False)
    for _, data in asked[:4]:
        reference.check(data)
    times: list[float] = []
    found: Counter[str] = Counter()
    started = time.perf_counter()
    for kind, data in itertools.cycle(asked):
        before = time.perf_counter()
        (check,) = reference.check(data)
        times.append(time.perf_counter() - before)
        found[f"{kind}: {check.finding}"] += 1
        if time.perf_counter() - started > seconds:
            break
    return _result(times, time.perf_counter() - started, found)


def load(port: int, clients: int, asked: Sequence[tuple[str, bytes]], seconds: float) -> dict[str, Any]:
    """So many clients, each asking again as soon as it is answered."""
    times: list[list[float]] = [[] for _ in range(clients)]
    found: Counter[str] = Counter()
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for kind, data in itertools.islice(itertools.cycle(asked), number, None):
            before = time.perf_counter()
            connection.request("POST", "/check", data, {"content-type": "image/jpeg"})
            answer = connection.getresponse()
            said = json.loads(answer.read())
            times[number].append(time.perf_counter() - before)
            with lock:
                found[f"{kind}: {said.get('finding', answer.status)}"] += 1
            if time.perf_counter() > end:
                return

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "clients": clients,
        **_result(list(itertools.chain(*times)), time.perf_counter() - started, found),
    }


def _result(times: Sequence[float], elapsed: float, found: Counter[str]) -> dict[str, Any]:
    return {
        "requests": len(times),
        "requests_a_second": round(len(times) / elapsed, 2),
        "p50_ms": round(float(np.percentile(times, 50)) * 1e3, 1),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 1),
        "answers": dict(sorted(found.items())),
    }


def start_server(run: Path) -> tuple[subprocess.Popen[str], int]:
    """The command, on a free port."""
    command = [sys.executable, "-m", "onceseen", "serve", "--reference", str(run), "--port", "0", "--quiet"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    line = server.stdout.readline() if server.stdout else ""
    port = int(re.search(r":(\d+)/docs", line)[1])  # type: ignore[index]
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return server, port


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", default="1,8,32")
    args = parser.parse_args()
    names = sorted(scenes())
    own, other = names[::2], names[1::2]
    with tempfile.TemporaryDirectory() as directory:
        run = deduplicate(own, Path(directory) / "half")
        asked = queries(own, other, 64)
        loop = plain_loop(run, asked, args.seconds)
        server, port = start_server(run)
        try:
            load(port, 4, asked, 2)
            rows = [load(port, int(n), asked, args.seconds) for n in args.clients.split(",")]
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
    for row in rows:
        row["ratio"] = round(row["requests_a_second"] / loop["requests_a_second"], 2)
    result = {
        "benchmark": "serve",
        "plain_loop": loop,
        "server": rows,
        "server_exit_code": code,
        "cores": available_cores(),
        "machine": platform.machine(),
    }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
