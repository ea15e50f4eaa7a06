"""What clients of OpenAI's API send and get. Unknown fields are ignored, as its clients expect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rag_chat.serving.bodies import Answered


class Part(BaseModel):
    """A part of a message; only `text` is read."""

    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    """One message; text, or parts of it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    """How to stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A conversation, of which the last message is the question."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    n: Annotated[int | None, Field(ge=1, le=1, description="One answer.")] = None


class Usage(BaseModel):
    """Tokens, as the index's embedder counts them; the packaged reader counts alike."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Reply(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: Reply
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """An answer; `rag_chat` has its citations and how it came about, as `rag-chat ask --json`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    rag_chat: Answered


class EmbeddingRequest(BaseModel):
    """Texts to embed. Token ids are refused: they belong to another model's vocabulary."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["base64", "float"] = "base64"
    dimensions: int | None = None


class Embedding(BaseModel):
    """A unit vector: base64 of little-endian float32, or numbers."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: str | list[float]


class EmbeddingUsage(BaseModel):
    """Tokens, as the embedder counts them."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """A vector for each text, in order."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


class Model(BaseModel):
    """A model that can be named in a request."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "rag_chat"


class Models(BaseModel):
    """The reader and the embedder."""

    object: Literal["list"] = "list"
    data: list[Model]


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The completion; with `stream`, chunks as server-sent events, then [DONE].",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
