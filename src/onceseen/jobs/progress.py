"""Progress of shard jobs, counted from their done marks, so that it works wherever the workers are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

_POLL_S = 0.5


@contextlib.contextmanager
def shard_progress(
    name: str, shards: Sequence[str], done: Callable[[str], bool], *, show: bool
) -> Iterator[None]:
    """Shows a bar of finished shards while the block runs.

    Args:
        name: What is being done.
        shards: Names of the shards.
        done: Whether a shard's mark is there.
        show: Whether there is anybody to show it to.
    """
    if not show or not shards:
        yield
        return
    stop = threading.Event()
    with tqdm(total=len(shards), desc=name, unit="shard", leave=True, dynamic_ncols=True) as bar:

        def poll() -> None:
            waiting = list(shards)
            while True:
                last = stop.wait(_POLL_S)
                left = [s for s in waiting if not done(s)]
                bar.update(len(waiting) - len(left))
                waiting = left
                if last:
                    return

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
