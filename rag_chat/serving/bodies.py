"""What clients send and get, as the OpenAPI document describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rag_chat.config import SearchMode

SessionId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, in hexadecimal.")]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Strict(BaseModel):
    """A body in which a misspelt name is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Ask(Strict):
    """A question, in a conversation of this client or in none."""

    question: Text
    session: SessionId | None = None
    filter: dict[str, str | int | float | bool] | None = None
    stream: bool = False


class Cited(BaseModel):
    """A span of a passage that supports a sentence: document text[start:end] == quote."""

    passage_id: str
    source: str
    title: str
    quote: str
    start: int
    end: int
    score: float


class Found(BaseModel):
    """A passage that was put to the model."""

    passage_id: str
    source: str
    title: str
    text: str
    score: float


class Answered(BaseModel):
    """An answer, as `rag-chat ask --json` prints it."""

    model_config = ConfigDict(extra="allow")

    answer: str
    abstained: bool
    reason: str
    query: str
    citations: list[Cited]
    passages: list[Found]
    model: str
    session: str
    timings_ms: dict[str, float]


class NewSession(BaseModel):
    """A name for a new conversation; it is kept once something was asked in it."""

    id: SessionId


class SessionLine(BaseModel):
    """A conversation in the list; times are ISO 8601, UTC."""

    id: str
    turns: int
    created: str
    updated: str
    first_question: str


class Sessions(BaseModel):
    """The conversations of this client, the one continued last first."""

    sessions: list[SessionLine]


class SessionTurns(BaseModel):
    """A part of a conversation; `more`: there are turns before the first of these."""

    id: str
    turns: list[dict[str, Any]]
    more: bool


class SearchHit(Found):
    """A passage found for a query."""

    rank: int
    kind: Literal["topic", "dialogue"]
    metadata: dict[str, Any]


class SearchHits(BaseModel):
    """The passages found, best first."""

    query: str
    mode: SearchMode
    hits: list[SearchHit]


class PassageText(BaseModel):
    """A passage with its place in its document; a citation `c` is text[c.start - start : c.end - start]."""

    passage_id: str
    source: str
    title: str
    text: str
    start: int
    end: int
    kind: Literal["topic", "dialogue"]
    context: str
    metadata: dict[str, Any]


class Rating(Strict):
    """What a person thinks of an answer."""

    session: SessionId
    turn: Annotated[int, Field(ge=1)]
    rating: Literal["up", "down"]
    comment: Annotated[str, Field(max_length=2000)] = ""


class Problem(BaseModel):
    """What went wrong, in OpenAI's shape."""

    message: str
    type: str
    param: str | None
    code: str | None


class ProblemBody(BaseModel):
    """The body of every error."""

    error: Problem


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody, "description": description}
    for status, description in {
        400: "The request cannot be used as it is.",
        401: "The API key is missing or wrong.",
        404: "There is nothing of that id for this client.",
        413: "The body is too large.",
        429: "The server is busy; Retry-After says for how long.",
        503: "The server is starting or shutting down.",
    }.items()
}
"""The errors that the OpenAPI document names for every operation."""
