"""Which shards a job has done, told from their done marks, so that it works wherever the workers are.

Marks are listed a directory at a time and read in threads: on an object store each look costs tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from onceseen.core.files import list_files
from onceseen.core.records import Shard

_POLL_S = 0.5
_PAUSE_FACTOR = 10.0
"""A look may take at most about a tenth of the time."""
_THREADS = 32


Marks = tuple[str, Callable[[str], str]]
"""Directory of a job's done marks, and the path of a mark by its shard's name."""


def undone(shards: Sequence[Shard], done: Callable[[Shard], bool], marks: Marks) -> list[Shard]:
    """The shards without a valid done mark, in order; only marks that are there are read, in threads."""
    directory, mark_of = marks
    there = set(list_files(directory, ".json"))
    marked = [s for s in shards if mark_of(s.name) in there]
    valid = {s.number for s, is_done in zip(marked, _in_threads(done, marked), strict=True) if is_done}
    return [s for s in shards if s.number not in valid]


def _in_threads(done: Callable[[Shard], bool], shards: Sequence[Shard]) -> list[bool]:
    if not shards:
        return []
    with ThreadPoolExecutor(min(_THREADS, len(shards))) as pool:
        return list(pool.map(done, shards))


@contextlib.contextmanager
def shard_progress(
    name: str,
    shards: Sequence[Shard],
    marks: Marks,
    done: Callable[[Shard], bool],
    *,
    total: int,
    show: bool,
) -> Iterator[None]:
    """Shows a bar of finished shards while the block runs.

    Args:
        name: What is being done.
        shards: Shards that are not done yet.
        marks: Directory of the done marks, and the path of a mark by its shard's name.
        done: Whether a shard's mark, which is there, is of this job.
        total: Shards in all, with those that were done before.
        show: Whether there is anybody to show it to.
    """
    if not show or not shards:
        yield
        return
    directory, mark_of = marks
    stop = threading.Event()
    before = total - len(shards)
    with tqdm(total=total, initial=before, desc=name, unit="shard", dynamic_ncols=True) as bar:

        def poll() -> None:
            waiting = {mark_of(s.name): s for s in shards}
            pause = _POLL_S
            while True:
                last = stop.wait(pause)
                started = time.monotonic()
                there = [path for path in list_files(directory, ".json") if path in waiting]
                valid = _in_threads(done, [waiting[path] for path in there])
                finished = [path for path, is_done in zip(there, valid, strict=True) if is_done]
                for path in finished:
                    del waiting[path]
                bar.update(len(finished))
                if last:
                    return
                pause = max(_POLL_S, _PAUSE_FACTOR * (time.monotonic() - started))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
