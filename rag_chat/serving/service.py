"""What every route works with: the assistant, its worker, and the conversations of the client."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends
from fastapi import Request as HttpRequest

from rag_chat.assistant import Assistant, Filter, Request
from rag_chat.conversation.sessions import SessionStore
from rag_chat.serving.metrics import Metrics
from rag_chat.serving.problems import Busy
from rag_chat.serving.settings import ServingSettings
from rag_chat.serving.worker import Worker
from rag_chat.types import Answer

logger = logging.getLogger(__name__)

Said = AsyncGenerator[str | Answer, None]
"""An answer piece by piece, then the Answer; closing it gives the answer up."""


class Service:
    """One assistant as a server offers it. `model` is the name that clients see, never a path."""

    def __init__(self, assistant: Assistant, settings: ServingSettings) -> None:
        self.assistant = assistant
        self.settings = settings
        self.metrics = Metrics()
        self.worker = Worker(
            assistant,
            batch=settings.batch,
            seconds=settings.answer_seconds,
            observe=self.metrics.answered_together,
        )
        name = assistant.model
        self.model = Path(name).name if Path(name).exists() else name
        self._under_way = 0
        self._counting = threading.Lock()
        self._turns: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    def store(self, owner: str) -> SessionStore:
        """The conversations of one owner."""
        return self.assistant.store(owner)

    @property
    def feedback(self) -> Path:
        """The folder where ratings are kept."""
        return self.settings.feedback or self.store("").path.parent / "feedback"

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the places for requests under way; raises Busy when there is none."""
        with self._counting:
            if self._under_way >= self.settings.waiting:
                raise Busy(max(1, math.ceil(self.worker.pace * self._under_way)))
            self._under_way += 1
            self.metrics.under_way.set(self._under_way)
        try:
            yield
        finally:
            with self._counting:
                self._under_way -= 1
                self.metrics.under_way.set(self._under_way)

    async def answer(self, request: Request, filter: Filter | None = None) -> Said:
        """Yield the answer to a question that belongs to no kept conversation."""
        with self.admitted():
            async with aclosing(self._said(request, filter)) as pieces:
                async for said in pieces:
                    yield said

    async def converse(self, question: str, filter: Filter | None, owner: str, session: str) -> Said:
        """Yield the next answer of a conversation; once the Answer comes, the turn is kept.

        Turns of one conversation come one after another, as each needs the one before.
        """
        store = self.store(owner)
        turn = self._turns.setdefault((owner, session), asyncio.Lock())
        with self.admitted():
            async with turn:
                history = await asyncio.to_thread(store.history, session)
                async with aclosing(self._said(Request(question, history), filter)) as pieces:
                    async for said in pieces:
                        if isinstance(said, Answer):
                            said = replace(said, session=session)
                            await asyncio.to_thread(store.append_turn, session, question, said)
                        yield said

    async def _said(self, request: Request, filter: Filter | None) -> Said:
        if self.settings.log_prompts:
            logger.info("asked: %r", request.question)
        async with aclosing(self.worker.submit(request, filter=filter).pieces()) as pieces:
            async for said in pieces:
                if isinstance(said, Answer):
                    self.metrics.answers.labels("abstained" if said.abstained else "answered").inc()
                    said = replace(said, model=self.model)
                yield said


def _service(request: HttpRequest) -> Service:
    return cast(Service, request.app.state.service)


def _owner(request: HttpRequest) -> str:
    return cast(str, request.state.owner)


TheService = Annotated[Service, Depends(_service)]
TheOwner = Annotated[str, Depends(_owner)]


async def whole(said: Said) -> Answer:
    """Return the Answer that ends what is said."""
    async with aclosing(said):
        async for one in said:
            if isinstance(one, Answer):
                return one
    raise AssertionError("what is said ends with the Answer")
