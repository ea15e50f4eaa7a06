"""One thread that generates: requests that wait are answered together, one nobody waits for is given up."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from rag_chat.assistant import Assistant, Filter, Request
from rag_chat.errors import RagChatError
from rag_chat.types import Answer

logger = logging.getLogger(__name__)

_FIRST_GUESS = 1.0  # seconds for an answer, before any was measured
_WEIGHT = 0.2  # of the newest measurement in the moving average


class TooSlow(RagChatError):
    """An answer did not come in time."""


class Stopping(RagChatError):
    """The server is shutting down."""


class Reply:
    """What is said in answer to one request, handed from the generating thread to the event loop.

    `wanted` turns False when nobody listens any more.
    """

    def __init__(self, request: Request, filter: Filter | None, seconds: float) -> None:
        self.request = request
        self.filter = filter
        self.wanted = True
        self.heard = False
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[str | Answer | Exception] = asyncio.Queue()
        self._deadline = self._loop.time() + seconds

    def say(self, said: str | Answer | Exception) -> None:
        """Called by the generating thread."""
        self.heard = True
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._said.put_nowait, said)

    async def pieces(self) -> AsyncGenerator[str | Answer, None]:
        """Yield the answer piece by piece, then the Answer; leaving the iterator gives the answer up.

        Raises TooSlow, Stopping, or what went wrong while answering.
        """
        try:
            while True:
                said = await self._next()
                if isinstance(said, Exception):
                    raise said
                yield said
                if isinstance(said, Answer):
                    return
        finally:
            self.wanted = False

    async def _next(self) -> str | Answer | Exception:
        try:
            return await asyncio.wait_for(self._said.get(), self._deadline - self._loop.time())
        except TimeoutError:
            raise TooSlow("The answer did not come in time.", "Try again, or ask less at once.") from None


class Worker:
    """Answers requests, up to `batch` together, each within `seconds` or not at all.

    `ready`: the models are loaded. `pace`: seconds an answer takes, of late. `observe` is told the size of
    each batch.
    """

    def __init__(
        self, assistant: Assistant, *, batch: int, seconds: float, observe: Callable[[int], None]
    ) -> None:
        self._assistant = assistant
        self._batch = batch
        self._seconds = seconds
        self._observe = observe
        self._changed = threading.Condition()
        self._queue: list[Reply] = []
        self._answering: list[Reply] = []
        self._stopping = False
        self.ready = False
        self.pace = _FIRST_GUESS
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()

    def submit(self, request: Request, *, filter: Filter | None = None) -> Reply:
        """Take a request; raises Stopping."""
        reply = Reply(request, filter, self._seconds)
        with self._changed:
            if self._stopping:
                raise Stopping("The server is shutting down.", "Try again in a moment.")
            self._queue.append(reply)
            self._changed.notify()
        return reply

    def close(self) -> None:
        """Give up what is not answered, and end the thread."""
        with self._changed:
            self._stopping = True
            left = self._queue + self._answering
            self._changed.notify()
        for reply in left:
            reply.wanted = False
            reply.say(Stopping("The server is shutting down.", "Try again in a moment."))
        self._thread.join()

    def _run(self) -> None:
        try:
            self._assistant.load()
            self.ready = True
        except Exception:  # every answer will tell
            logger.exception("The models could not be loaded")
        while batch := self._next_batch():
            started = time.perf_counter()
            self._answer(batch)
            took = (time.perf_counter() - started) / len(batch)
            self.pace += _WEIGHT * (took - self.pace)
            self._observe(len(batch))

    def _next_batch(self) -> list[Reply]:
        """The request that has waited longest, and others with the same filter; none at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    return []
                waiting = [reply for reply in self._queue if reply.wanted]
                alike = [reply for reply in waiting if reply.filter == waiting[0].filter][: self._batch]
                self._queue = [reply for reply in waiting if reply not in alike]
                self._answering = alike
                if alike:
                    return alike

    def _answer(self, batch: list[Reply]) -> None:
        """Answer a batch; when it fails, each of it that has heard nothing yet on its own."""
        requests = [reply.request for reply in batch]
        try:
            for row, said in self._assistant.stream_many(
                requests, filter=batch[0].filter, wanted=lambda row: batch[row].wanted
            ):
                batch[row].say(said)
        except Exception as error:
            if not isinstance(error, RagChatError):
                logger.exception("A batch of %d failed", len(batch))
            for reply in batch:
                if reply.heard or len(batch) == 1:
                    reply.say(error)
                elif reply.wanted:
                    self._answer([reply])
