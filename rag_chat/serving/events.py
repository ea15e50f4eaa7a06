"""Server-sent events: pieces of an answer while it is generated."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.requests import ClientDisconnect

from rag_chat.serving.problems import error_json

T = TypeVar("T")


def event(data: Any, name: str | None = None) -> bytes:
    """One event with JSON in it; a name where the client tells events apart by it."""
    return format_sse_event(data_str=json.dumps(data, ensure_ascii=False), event=name)


async def event_stream(events: AsyncGenerator[bytes, None], failed: str | None = None) -> StreamingResponse:
    """Stream events. What fails before the first is raised; later it is told in an event named `failed`."""
    first = await anext(events)

    async def all_events() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(events):
            yield first
            try:
                async for one in events:
                    yield one
            except Exception as error:
                yield event(error_json(error), failed)

    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(all_events(), media_type="text/event-stream", headers=headers)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; cancel it, and raise ClientDisconnect, when the client leaves before."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client is gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
