"""Pictures of concurrent requests, checked together: one call of the model for all of them.

    submit -> queue -> a batch as soon as a worker is free, or after the window -> thread -> answers

An answer does not depend on the batch that a picture was in. A picture whose check raises is checked again alone, so
that it fails alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from onceseen.reference import Check

_Item = tuple[bytes, "asyncio.Future[Check]"]
CheckAll = Callable[[Sequence[bytes]], list[Check]]


class Batcher:
    """Gathers pictures into batches; used on one event loop."""

    def __init__(
        self, check: CheckAll, size: int, window_s: float, workers: int, seen: Callable[[int], object]
    ) -> None:
        """Starts nothing yet.

        Args:
            check: Checks some pictures, in a thread.
            size: Pictures a batch at most.
            window_s: How long a batch waits for more.
            workers: Batches at a time.
            seen: Called with each batch's size.
        """
        self._check = check
        self._size = size
        self._window_s = window_s
        self._seen = seen
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="check")
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Pictures that are in no batch yet."""
        return self._queue.qsize()

    def start(self) -> None:
        """Starts gathering, on the running loop."""
        self._loop = asyncio.get_running_loop().create_task(self._gather_forever())

    async def stop(self) -> None:
        """Stops gathering, and waits for the batches under way."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        await asyncio.gather(*self._running, return_exceptions=True)
        self._pool.shutdown()

    async def submit(self, pictures: Sequence[bytes]) -> list[Check]:
        """The answers to one request's pictures, in order.

        Raises:
            Exception: What checking one of them raised.
        """
        loop = asyncio.get_running_loop()
        items: list[_Item] = [(picture, loop.create_future()) for picture in pictures]
        for item in items:
            self._queue.put_nowait(item)
        try:
            return list(await asyncio.gather(*(answer for _, answer in items)))
        finally:
            for _, answer in items:
                answer.cancel()  # nobody waits for those that are left

    async def _gather_forever(self) -> None:
        while True:
            first = await self._queue.get()
            await self._free.acquire()
            batch = [item for item in await self._more(first) if not item[1].done()]
            if not batch:
                self._free.release()
                continue
            task = asyncio.get_running_loop().create_task(self._work(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _more(self, first: _Item) -> list[_Item]:
        """A batch: what waits already, and what comes within the window."""
        batch = [first]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._window_s):
                while len(batch) < self._size:
                    batch.append(await self._queue.get())
        return batch

    async def _work(self, batch: Sequence[_Item]) -> None:
        self._seen(len(batch))
        try:
            pictures = [picture for picture, _ in batch]
            found = await asyncio.get_running_loop().run_in_executor(self._pool, self._answers, pictures)
        finally:
            self._free.release()
        for (_, answer), said in zip(batch, found, strict=True):
            if answer.done():
                continue
            if isinstance(said, Check):
                answer.set_result(said)
            else:
                answer.set_exception(said)

    def _answers(self, pictures: Sequence[bytes]) -> list[Check | Exception]:
        """In a worker's thread."""
        try:
            return list(self._check(pictures))
        except Exception as error:
            if len(pictures) == 1:
                return [error]
            return [answer for picture in pictures for answer in self._answers([picture])]
