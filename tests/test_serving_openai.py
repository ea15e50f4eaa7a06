"""The OpenAI-compatible API, spoken to by OpenAI's own client and by LangChain's."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import models
import numpy as np
import openai
import pytest
from serving import CORPUS, PATIENCE, Echo, served

from rag_chat.assistant import Assistant
from rag_chat.retrieval.index import Index
from rag_chat.serving.app import create_app

QUESTION = "How long do I boil an egg?"
ANSWER = "Boil an egg for six minutes."
UNSUPPORTED = "No passage supports this answer."

GOLDEN = """\
data: {"id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "echo", "choices": [\
{"index": 0, "delta": {"role": "assistant", "content": ""}, \
"logprobs": null, "finish_reason": null}], "usage": null}

data: {"id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "echo", "choices": [\
{"index": 0, "delta": {"content": "Boiled"}, "logprobs": null, "finish_reason": null}], "usage": null}

data: {"id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "echo", "choices": [\
{"index": 0, "delta": {"content": " eggs?"}, "logprobs": null, "finish_reason": null}], "usage": null}

data: {"id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "echo", "choices": [\
{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}], "usage": null, "rag_chat": {}}

data: {"id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "echo", "choices": [], \
"usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}}

data: [DONE]

"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("served") / "index"
    with Index.build(CORPUS, folder, embedder=models.WordEmbedder()) as index:
        yield index


@pytest.fixture(scope="module")
def address(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bot = Assistant(index, "extractive", sessions=tmp_path_factory.mktemp("kept") / "sessions.sqlite")
    with served(create_app(bot)) as address:
        yield address


@pytest.fixture(scope="module")
def echo(index: Index) -> Iterator[str]:
    with served(create_app(Assistant(index, Echo()))) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_completion_with_citations(client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": QUESTION}]
    done = client.chat.completions.create(model="extractive", messages=asked, temperature=0, seed=1)  # type: ignore[call-overload]
    assert done.choices[0].message.content == ANSWER
    assert done.choices[0].finish_reason == "stop"
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert done.rag_chat["citations"][0]["source"] == "food/eggs.md"


def test_parts_history_and_unknown_fields(client: openai.OpenAI) -> None:
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And why"}, {"type": "text", "text": "so long?"}],
        },
    ]
    done = client.chat.completions.create(
        model="extractive", messages=messages, extra_body={"mirostat": 2}, user="u"
    )
    assert done.rag_chat["query"].startswith(QUESTION)  # type: ignore[attr-defined]


def test_a_stream_of_chunks(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="extractive",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-2].rag_chat["answer"] == ANSWER  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_of_tokens(client: openai.OpenAI, name: str, stream: bool) -> None:
    asked = [{"role": "user", "content": QUESTION}]
    body = {"model": "extractive", "messages": asked, name: 3}
    if stream:
        chunks = list(client.chat.completions.create(**body, stream=True))  # type: ignore[call-overload]
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        finish = chunks[-1].choices[0].finish_reason
    else:
        choice = client.chat.completions.create(**body).choices[0]  # type: ignore[call-overload]
        text, finish = choice.message.content, choice.finish_reason
    assert (text, finish) == ("Boil an egg", "length")


@pytest.mark.parametrize(
    ("reply", "said", "cited", "unsupported", "reason"),
    [
        (f"{ANSWER} Penguins like chess.", "Boil an egg", 1, [], ""),
        (f"Penguins like chess. {ANSWER}", "Penguins like chess", 0, ["Penguins like chess"], UNSUPPORTED),
    ],
)
def test_an_answer_that_is_cut_tells_of_what_is_left(
    index: Index, reply: str, said: str, cited: int, unsupported: list[str], reason: str
) -> None:
    model = models.Scripted({QUESTION: reply})
    body = {"model": model.name, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 3}
    with served(create_app(Assistant(index, model))) as address:
        response = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=PATIENCE)
    told = response.json()["rag_chat"]
    assert told["answer"] == said
    assert (len(told["citations"]), told["unsupported"], told["reason"]) == (cited, unsupported, reason)


def test_the_stream_as_bytes(echo: str) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "Boiled eggs?"}], "stream": True}
    body["stream_options"] = {"include_usage": True}
    response = httpx.post(f"{echo}/v1/chat/completions", json=body, timeout=PATIENCE)
    text = re.sub(r'"id": "chatcmpl-[0-9a-f]{24}"', '"id": "ID"', response.text)
    text = re.sub(r'"created": \d+', '"created": 0', text)
    text = re.sub(r'"rag_chat": \{.*\}\}', '"rag_chat": {}}', text)
    assert text == GOLDEN
    assert response.headers["content-type"].startswith("text/event-stream")


def test_fifty_in_parallel_get_their_own_answers(echo: str) -> None:
    async def ask(client: openai.AsyncOpenAI, n: int, stream: bool) -> str | None:
        asked = [{"role": "user", "content": f"Boil {n} eggs?"}]
        if stream:
            chunks = await client.chat.completions.create(model="echo", messages=asked, stream=True)  # type: ignore[call-overload]
            return "".join([c.choices[0].delta.content or "" async for c in chunks])
        done = await client.chat.completions.create(model="echo", messages=asked)  # type: ignore[call-overload]
        return str(done.choices[0].message.content)

    async def all_at_once() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{echo}/v1", api_key="unused", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, n, n % 2 == 0) for n in range(50)))

    assert asyncio.run(all_at_once()) == [f"Boil {n} eggs?" for n in range(50)]


def test_langchain_speaks_to_it(address: str) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import SecretStr

    chat = ChatOpenAI(model="extractive", base_url=f"{address}/v1", api_key=SecretStr("unused"))
    assert chat.invoke(QUESTION).content == ANSWER
    assert "".join(str(chunk.content) for chunk in chat.stream(QUESTION)) == ANSWER
    embeddings = OpenAIEmbeddings(
        model="words",
        base_url=f"{address}/v1",
        api_key=SecretStr("unused"),
        check_embedding_ctx_length=False,
    )
    assert np.allclose(embeddings.embed_query(ANSWER), models.WordEmbedder().embed([ANSWER])[0])


def test_embeddings_as_base64_and_as_numbers(address: str, client: openai.OpenAI) -> None:
    texts = [ANSWER, "Tromsø lies in Norway."]
    expected = models.WordEmbedder().embed(texts)
    got = client.embeddings.create(model="words", input=texts)
    assert np.array_equal(np.array([one.embedding for one in got.data], np.float32), expected)
    asked = {"model": "words", "input": ANSWER}
    plain = httpx.post(f"{address}/v1/embeddings", json=asked, timeout=PATIENCE).json()
    assert np.array_equal(np.frombuffer(base64.b64decode(plain["data"][0]["embedding"]), "<f4"), expected[0])
    numbers = client.embeddings.create(model="words", input=ANSWER, encoding_format="float")
    assert np.array_equal(np.float32(numbers.data[0].embedding), expected[0])


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["extractive", "words"]
    assert client.models.retrieve("extractive").id == "extractive"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


USER = {"role": "user", "content": QUESTION}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("chat/completions", {"model": "gpt-5", "messages": [USER]}, 404, "model"),
        ("chat/completions", {"model": "extractive", "messages": []}, 400, "messages"),
        ("chat/completions", {"model": "extractive", "messages": [{"role": "user"}]}, 400, "messages.0"),
        ("chat/completions", {"model": "extractive", "messages": "hi"}, 400, "messages"),
        ("chat/completions", {"model": "extractive", "messages": [USER], "n": 2}, 400, "n"),
        ("chat/completions", {"model": "extractive", "messages": [USER], "max_tokens": 0}, 400, "max_tokens"),
        ("chat/completions", {"model": "extractive", "messages": [USER] * 201}, 400, "messages"),
        (
            "chat/completions",
            {"model": "extractive", "messages": [{"role": "user", "content": "x" * 20_001}]},
            400,
            "messages.0.content",
        ),
        (
            "chat/completions",
            {
                "model": "extractive",
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}],
                    }
                ],
            },
            400,
            "messages.0.content",
        ),
        ("embeddings", {"model": "words", "input": [1, 2, 3]}, 400, "input"),
        ("embeddings", {"model": "words", "input": [[1, 2], [3]]}, 400, "input"),
        ("embeddings", {"model": "words", "input": []}, 400, "input"),
        ("embeddings", {"model": "words", "input": [""]}, 400, "input"),
        ("embeddings", {"model": "words", "input": "a", "dimensions": 3}, 400, "dimensions"),
        ("embeddings", {"model": "extractive", "input": "a"}, 404, "model"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    address: str, path: str, body: dict[str, object], status: int, param: str
) -> None:
    response = httpx.post(f"{address}/v1/{path}", json=body, timeout=PATIENCE)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", json.dumps("x").encode(), b"[" * 5000])
def test_what_is_no_json_object_is_refused(address: str, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/chat/completions", "/v1/embeddings", "/api/ask", "/api/feedback"):
        response = httpx.post(f"{address}{path}", content=content, headers=headers, timeout=PATIENCE)
        assert response.status_code == 400, (path, response.text)
        assert response.json()["error"]["message"]


def test_no_path_of_this_machine_is_told(index: Index, trained_reader: Path) -> None:
    with served(create_app(Assistant(index, trained_reader))) as address:
        assert httpx.get(f"{address}/v1/models", timeout=PATIENCE).json()["data"][0]["id"] == "reader"
        body = {"model": "reader", "messages": [USER]}
        response = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert response.status_code == 200
    assert str(trained_reader.parent) not in response.text
