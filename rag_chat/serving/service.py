"""What every route works with: the assistant, its worker, and the conversations of the client."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends
from fastapi import Request as HttpRequest

from rag_chat.assistant import Assistant, Filter, Request
from rag_chat.conversation.sessions import SessionStore
from rag_chat.serving.settings import ServingSettings
from rag_chat.serving.worker import Busy, Worker
from rag_chat.types import Answer


@dataclass(slots=True)
class Service:
    """One assistant as a server offers it."""

    assistant: Assistant
    settings: ServingSettings
    worker: Worker
    _turns: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(
        default_factory=weakref.WeakValueDictionary
    )
    _beside: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._beside = threading.Semaphore(self.settings.waiting)

    def store(self, owner: str) -> SessionStore:
        """The conversations of one owner."""
        return self.assistant.store(owner)

    @property
    def feedback(self) -> Path:
        """The folder where ratings are kept."""
        return self.settings.feedback or self.store("").path.parent / "feedback"

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Do work beside the worker, of which there is a bound as well; raises Busy."""
        if not self._beside.acquire(blocking=False):
            raise Busy(1)
        try:
            yield
        finally:
            self._beside.release()

    async def ask(
        self, question: str, filter: Filter | None, owner: str, session: str | None
    ) -> AsyncGenerator[str | Answer, None]:
        """Yield the answer piece by piece, then the Answer, which by then is kept in its conversation.

        Turns of one conversation come one after another, as each needs the one before.
        """
        if session is None:
            async for said in self.worker.submit(Request(question), filter=filter).pieces():
                yield said
            return
        store = self.store(owner)
        lock = self._turns.setdefault((owner, session), asyncio.Lock())
        async with lock:
            history = await asyncio.to_thread(store.history, session)
            reply = self.worker.submit(Request(question, history), filter=filter)
            async for said in reply.pieces():
                if isinstance(said, Answer):
                    said = replace(said, session=session)
                    await asyncio.to_thread(store.append_turn, session, question, said)
                yield said


def _service(request: HttpRequest) -> Service:
    return cast(Service, request.app.state.service)


def _owner(request: HttpRequest) -> str:
    return cast(str, request.state.owner)


TheService = Annotated[Service, Depends(_service)]
TheOwner = Annotated[str, Depends(_owner)]
