"""The API that clients of OpenAI speak: chat completions, embeddings, models."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from rag_chat.assistant import Request as Asked
from rag_chat.conversation.verdict import reason_of
from rag_chat.conversation.writing import answer_json
from rag_chat.generation.citations import find_support
from rag_chat.index.embedding import token_spans_of
from rag_chat.serving.bodies import ERRORS
from rag_chat.serving.events import event, event_stream, while_connected
from rag_chat.serving.openai_bodies import (
    STREAMED,
    ChatMessage,
    ChatRequest,
    Completion,
    EmbeddingRequest,
    Embeddings,
    Model,
    Models,
)
from rag_chat.serving.problems import Refused
from rag_chat.serving.service import Service, TheService, whole
from rag_chat.types import Answer, Embedder, Message

router = APIRouter(prefix="/v1", responses=ERRORS)

MOST_TEXTS = 256  # in one request for embeddings


@router.get("/models")
def list_models(service: TheService) -> Models:
    """List the models that a request can name."""
    return Models(data=[Model(id=name) for name in _names(service)])


@router.get("/models/{model:path}")
def show_model(model: str, service: TheService) -> Model:
    """Show one of them."""
    _check_model(model, _names(service))
    return Model(id=model)


@router.post("/chat/completions", response_model=Completion, responses=STREAMED)
async def complete(body: ChatRequest, request: Request, service: TheService) -> Any:
    """Answer the last message from the index, with what was said before.

    System messages are left out: how to answer, and from what, is the assistant's own.
    """
    _check_model(body.model, (service.model,))
    asked = _asked(body.messages, service)
    if body.stream:
        return await while_connected(request, event_stream(_chunks(asked, body, service)))
    answer = await while_connected(request, whole(service.answer(asked)))
    embedder = service.assistant.index.embedder
    answer, finish = await asyncio.to_thread(_cut, answer, _limit(body), embedder, asked.question)
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        **_head(service, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(answer, embedder),
        "rag_chat": answer_json(answer),
    }


@router.post("/embeddings")
def embed(body: EmbeddingRequest, service: TheService) -> Embeddings:
    """Embed texts as the index embeds its passages."""
    index = service.assistant.index
    _check_model(body.model, (index.identity.name,))
    texts = _texts(body, service)
    if body.dimensions not in (None, index.identity.dimension):
        problem = f"{index.identity.name} has {index.identity.dimension} dimensions."
        raise Refused(400, problem, "Leave `dimensions` out.", param="dimensions")
    with service.admitted():
        vectors = index.embedder.embed(texts).astype("<f4")
    spans = token_spans_of(index.embedder)
    count = sum(len(spans(text)) for text in texts)
    data = [
        {
            "index": n,
            "embedding": base64.b64encode(vector.tobytes()).decode()
            if body.encoding_format == "base64"
            else vector.tolist(),
        }
        for n, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return Embeddings.model_validate({"model": index.identity.name, "data": data, "usage": usage})


async def _chunks(asked: Asked, body: ChatRequest, service: Service) -> AsyncGenerator[bytes, None]:
    """The chunks of a streamed completion; what is beyond the limit of tokens is not sent."""
    head = _head(service, "chat.completion.chunk")
    wants_usage = bool(body.stream_options and body.stream_options.include_usage)
    blank = {"usage": None} if wants_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice], **blank, **more})

    text, sent, embedder, limit = "", 0, service.assistant.index.embedder, _limit(body)
    async with aclosing(service.answer(asked)) as said:
        async for one in said:
            if isinstance(one, Answer):
                answer, finish = await asyncio.to_thread(_cut, one, limit, embedder, asked.question)
                yield chunk({}, finish, rag_chat=answer_json(answer))
                if wants_usage:
                    yield event({**head, "choices": [], "usage": _usage(answer, embedder)})
                yield b"data: [DONE]\n\n"
                return
            if not text:
                yield chunk({"role": "assistant", "content": ""})
            text += one
            end = _end(text, limit, embedder)
            if end > sent:
                yield chunk({"content": text[sent:end]})
                sent = end


def _head(service: Service, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": service.model}


def _names(service: Service) -> tuple[str, ...]:
    return service.model, service.assistant.index.identity.name


def _check_model(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise Refused(
            404,
            f"There is no model {name[:100]!r} for this.",
            f"Use {known[0]!r}; GET /v1/models names all.",
            param="model",
            code="model_not_found",
        )


def _asked(messages: list[ChatMessage], service: Service) -> Asked:
    """The conversation as the assistant takes it; raises Refused for what it cannot read."""
    if len(messages) > service.settings.messages:
        most = f"There are more than {service.settings.messages} messages."
        raise Refused(400, most, "Leave out the oldest.", param="messages")
    texts = [_text(message, n, service.settings.message_chars) for n, message in enumerate(messages)]
    if messages[-1].role != "user" or not texts[-1].strip():
        at = f"messages.{len(messages) - 1}"
        raise Refused(400, "The last message is not a question of the user.", "Add one.", param=at)
    history = [
        Message(message.role, text)
        for message, text in zip(messages[:-1], texts, strict=False)
        if message.role in ("user", "assistant") and text.strip()
    ]
    return Asked(texts[-1], tuple(history))


def _text(message: ChatMessage, n: int, most: int) -> str:
    parts = message.content if isinstance(message.content, list) else []
    if any(part.type not in ("text", "refusal") for part in parts):
        problem = "Only parts of type `text` are read; nothing is fetched."
        raise Refused(400, problem, "Leave the others out.", param=f"messages.{n}.content")
    text = message.content if isinstance(message.content, str) else "\n".join(p.text or "" for p in parts)
    if len(text) > most:
        problem = f"The message has more than {most} characters."
        raise Refused(400, problem, "Shorten it.", param=f"messages.{n}.content")
    return text


def _limit(body: ChatRequest) -> int | None:
    return body.max_completion_tokens or body.max_tokens


def _end(text: str, limit: int | None, embedder: Embedder) -> int:
    """Where a text ends that may have so many tokens."""
    spans = token_spans_of(embedder)(text) if limit is not None else []
    return spans[limit - 1][1] if limit is not None and len(spans) > limit else len(text)


def _cut(answer: Answer, limit: int | None, embedder: Embedder, question: str) -> tuple[Answer, str]:
    """The answer within the limit of tokens, with the support of what is left of it, and why it ends."""
    end = _end(answer.text, limit, embedder)
    if end == len(answer.text):
        return answer, "stop"
    answer = replace(answer, text=answer.text[:end])
    if answer.abstained:
        return answer, "length"
    passages = [hit.passage for hit in answer.hits]
    support = find_support(answer.text, passages, question=question, embedder=embedder)
    cited, unsupported = support.citations, support.unsupported
    reason = reason_of(support) or (answer.reason if answer.citations else "")
    return replace(answer, citations=cited, unsupported=unsupported, reason=reason), "length"


def _usage(answer: Answer, embedder: Embedder) -> dict[str, int]:
    asked, said = (len(token_spans_of(embedder)(text)) for text in (answer.prompt, answer.text))
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _texts(body: EmbeddingRequest, service: Service) -> list[str]:
    given = [body.input] if isinstance(body.input, str) else body.input
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) < len(given):
        fix = "Send the texts themselves (LangChain: check_embedding_ctx_length=False)."
        raise Refused(400, "Token ids cannot be embedded, only texts.", fix, param="input")
    most = service.settings.message_chars
    if not 0 < len(texts) <= MOST_TEXTS or not all(0 < len(text.strip()) <= most for text in texts):
        problem = f"The input is not 1 to {MOST_TEXTS} texts of 1 to {most} characters."
        raise Refused(400, problem, "Split it.", param="input")
    return texts
