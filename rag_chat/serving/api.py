"""The server's own API: conversations, answers, search, passages, ratings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from rag_chat.assistant import Request as Asked
from rag_chat.config import SearchMode
from rag_chat.conversation.sessions import new_session_id
from rag_chat.conversation.writing import answer_json, hit_json
from rag_chat.serving.bodies import (
    ERRORS,
    Answered,
    Ask,
    NewSession,
    PassageText,
    Rating,
    SearchHits,
    SessionId,
    Sessions,
    SessionTurns,
)
from rag_chat.serving.events import event, event_stream, while_connected
from rag_chat.serving.feedback import keep_rating
from rag_chat.serving.problems import Refused, not_found
from rag_chat.serving.service import Said, TheOwner, TheService, whole
from rag_chat.types import Answer

router = APIRouter(prefix="/api", responses=ERRORS)

_KEPT_BACK = {"prompt", "settings"}
"""What of a trace stays here: the first is long, the second has paths of this machine."""

_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream`, events `piece` {text}, then `answer` or `error`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post("/sessions", status_code=201)
def create_session() -> NewSession:
    """Name a new conversation."""
    return NewSession(id=new_session_id())


@router.get("/sessions")
def list_sessions(service: TheService, owner: TheOwner) -> Sessions:
    """List the conversations of this client, the one continued last first."""
    return Sessions.model_validate({"sessions": [asdict(one) for one in service.store(owner).list()]})


@router.get("/sessions/{session}")
def show_session(
    session: SessionId,
    service: TheService,
    owner: TheOwner,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="Only turns before this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> SessionTurns:
    """Show the last turns of a conversation, oldest first, and how each was answered."""
    store = service.store(owner)
    traces = store.traces(session, before=before, last=limit + 1)
    if not traces and not store.last_answer(session):
        raise not_found("session")
    shown = [{name: one[name] for name in one.keys() - _KEPT_BACK} for one in traces[-limit:]]
    return SessionTurns(id=session, turns=shown, more=len(traces) > limit)


@router.delete("/sessions/{session}", status_code=204)
def remove_session(session: SessionId, service: TheService, owner: TheOwner) -> None:
    """Delete a conversation for good."""
    store = service.store(owner)
    if not store.history(session):
        raise not_found("session")
    store.remove(session)


@router.post("/ask", response_model=Answered, responses=_STREAMED)
async def ask(body: Ask, request: Request, service: TheService, owner: TheOwner) -> Any:
    """Answer a question with its citations, or abstain and say why."""
    if len(body.question) > service.settings.message_chars:
        most = service.settings.message_chars
        raise Refused(400, f"The question has more than {most} characters.", "Ask less.", param="question")
    if body.session:
        said = service.converse(body.question, body.filter, owner, body.session)
    else:
        said = service.answer(Asked(body.question), body.filter)
    if body.stream:
        return await while_connected(request, event_stream(_events(said), "error"))
    return answer_json(await while_connected(request, whole(said)))


@router.get("/search")
def search(
    service: TheService,
    q: Annotated[str, Query(min_length=1, max_length=2000, pattern=r"\S")],
    k: Annotated[int, Query(ge=1, le=100)] = 5,
    mode: SearchMode = "hybrid",
    filter: Annotated[list[str] | None, Query(description="key=value; may be repeated.")] = None,
) -> SearchHits:
    """Find the passages that fit a query."""
    with service.admitted():
        hits = service.assistant.index.search(q, k, mode=mode, filter=_pairs(filter or []))
    return SearchHits.model_validate({"query": q, "mode": mode, "hits": [hit_json(hit) for hit in hits]})


@router.get("/passages/{passage_id:path}")
def show_passage(passage_id: str, service: TheService) -> PassageText:
    """Show a passage with its place in its document."""
    passage = service.assistant.index.passage(passage_id)
    if passage is None:
        raise not_found("passage")
    return PassageText(
        passage_id=passage.id,
        source=passage.source,
        title=passage.title,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        kind=passage.kind,
        context=passage.context,
        metadata=dict(passage.metadata),
    )


@router.post("/feedback", status_code=204)
def rate(body: Rating, service: TheService, owner: TheOwner) -> Response:
    """Keep what a person thinks of an answer, as a case to evaluate with."""
    messages = service.store(owner).history(body.session)[: 2 * body.turn]
    if not messages:
        raise not_found("session")
    if len(messages) < 2 * body.turn:
        raise not_found("turn")
    keep_rating(service.feedback, f"{body.session}-{body.turn}", messages, body.rating, body.comment)
    return Response(status_code=204)


async def _events(said: Said) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(said):
        async for one in said:
            if isinstance(one, Answer):
                yield event(answer_json(one), "answer")
            else:
                yield event({"text": one}, "piece")


def _pairs(filters: list[str]) -> dict[str, str] | None:
    pairs = [one.partition("=") for one in filters]
    if not all(key and sign for key, sign, _ in pairs):
        raise Refused(400, "A filter is not of the form key=value.", "As in: topic=travel", param="filter")
    return {key: value for key, _, value in pairs} or None
