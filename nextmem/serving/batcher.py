"""Requests that come while the codec is at work go to it together, as soon as it is free. There is no timer.

A lone request waits for nobody; under load the batches grow by themselves. What waits is bounded: beyond the bound a
request is turned away at once, which keeps memory and waiting times where they are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from model.refusal import Unavailable

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class Full(Unavailable):
    """As many requests wait as may."""


class Batcher(Generic[Asked, Given]):
    """`work` gets a list of requests in its own thread, and gives an answer or an error for each, in order.

    `most`: requests a batch. `waiting`: requests that may wait. `on_batch` is told each batch's size. Used from one
    event loop.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Sequence[Given | Exception]],
        *,
        most: int = 32,
        waiting: int = 256,
        on_batch: Callable[[int], object] = lambda size: None,
    ):
        self._work, self._most, self._waiting, self._on_batch = work, most, waiting, on_batch
        self._queue: deque[tuple[Asked, asyncio.Future[Given]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="codec")
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    async def ask(self, asked: Asked) -> Given:
        """The answer. Raises Full, or what `work` gave as the error."""
        self.require_room()
        answer: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._queue.append((asked, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await answer

    def require_room(self) -> None:
        """Raises Full where no other request may wait."""
        if len(self._queue) >= self._waiting:
            raise Full(f"{len(self._queue)} requests wait already: try again in a second")

    async def close(self) -> None:
        """Answer what waits, and end the thread."""
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _run(self) -> None:
        while batch := self._taken():
            self._on_batch(len(batch))
            try:
                given = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._work, [asked for asked, _ in batch]
                )
            except Exception as error:  # of the batch as a whole: each of its requests is told
                given = [error] * len(batch)
            for (_, answer), each in zip(batch, given, strict=True):
                with suppress(asyncio.InvalidStateError):  # who asked has gone
                    answer.set_exception(each) if isinstance(each, Exception) else answer.set_result(each)

    def _taken(self) -> list[tuple[Asked, asyncio.Future[Given]]]:
        """The next batch. Requests whose askers have gone are left out."""
        batch: list[tuple[Asked, asyncio.Future[Given]]] = []
        while self._queue and len(batch) < self._most:
            asked, answer = self._queue.popleft()
            if not answer.cancelled():
                batch.append((asked, answer))
        return batch
