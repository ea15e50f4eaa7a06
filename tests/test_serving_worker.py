"""Answering together, in turn, in time, and not at all for those who left."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import models
import pytest
from serving import CORPUS, PATIENCE, Echo, Held, served, under_way, until

from rag_chat.assistant import Assistant, Request
from rag_chat.errors import ModelError
from rag_chat.retrieval.index import Index
from rag_chat.serving.app import create_app
from rag_chat.serving.settings import ServingSettings
from rag_chat.serving.worker import Stopping, TooSlow, Worker
from rag_chat.types import Answer, Generated, Turn


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("worked") / "index"
    with Index.build(CORPUS, folder, embedder=models.WordEmbedder()) as index:
        yield index


@contextlib.contextmanager
def worker(index: Index, reader: Echo, seconds: float = 30.0, batch: int = 4) -> Iterator[Worker]:
    made = Worker(Assistant(index, reader), batch=batch, seconds=seconds, observe=lambda _: None)
    try:
        yield made
    finally:
        made.close()


async def answer(made: Worker, question: str, **filter: str) -> Answer:
    said = [one async for one in made.submit(Request(question), filter=filter or None).pieces()]
    assert isinstance(said[-1], Answer)
    return said[-1]


def test_requests_that_wait_are_answered_together_and_in_their_own_names(index: Index) -> None:
    reader = Held()

    async def many() -> list[Answer]:
        waiting = [asyncio.ensure_future(answer(made, f"Boil {n} eggs?")) for n in range(9)]
        await asyncio.sleep(0)  # each is submitted
        reader.may_go_on.set()
        return await asyncio.gather(*waiting)

    with worker(index, reader) as made:
        answers = asyncio.run(many())
    assert [one.text for one in answers] == [f"Boil {n} eggs?" for n in range(9)]
    assert max(reader.batches) == 4
    assert len(reader.batches) == 3


def test_only_requests_with_the_same_filter_are_answered_together(index: Index) -> None:
    async def two() -> tuple[Answer, Answer]:
        return await asyncio.gather(answer(made, "Boil eggs?", topic="food"), answer(made, "Tromsø eggs?"))

    with worker(index, Echo(pause=0.05)) as made:
        filtered, free = asyncio.run(two())
    assert {hit.passage.source for hit in filtered.hits} == {"food/eggs.md"}
    assert len({hit.passage.source for hit in free.hits}) == 2


def test_a_client_that_leaves_stops_its_answer(index: Index) -> None:
    reader = Held()

    async def leave() -> Answer:
        pieces = made.submit(Request(" ".join(["egg"] * 100))).pieces()
        async with contextlib.aclosing(pieces):
            await anext(pieces)
        reader.may_go_on.set()
        return await answer(made, "Boil it?")  # its turn comes when the other has ended

    with worker(index, reader) as made:
        asyncio.run(leave())
    assert reader.words == 2 + 2


def test_who_leaves_while_waiting_is_never_answered(index: Index) -> None:
    reader = Held()

    async def three() -> list[Answer]:
        first = asyncio.ensure_future(answer(made, "Boil one egg?"))
        await asyncio.to_thread(until, lambda: reader.batches == [1])
        left = asyncio.ensure_future(answer(made, "Boil two eggs?"))
        last = asyncio.ensure_future(answer(made, "Boil three eggs?"))
        await asyncio.sleep(0)  # both are submitted
        left.cancel()
        await asyncio.wait([left])
        reader.may_go_on.set()
        return await asyncio.gather(first, last)

    with worker(index, reader) as made:
        asyncio.run(three())
    assert reader.batches == [1, 1]


def test_an_answer_that_does_not_come_in_time_is_an_error(index: Index) -> None:
    with worker(index, Echo(pause=0.5), seconds=0.1) as made, pytest.raises(TooSlow):
        asyncio.run(answer(made, "Boil an egg?"))


def test_what_fails_for_one_does_not_fail_for_others(index: Index) -> None:
    class Picky(Echo):
        def generate(self, turns: list[Turn]) -> list[Generated]:  # type: ignore[override]
            if any("bad" in turn.question for turn in turns):
                raise ModelError("It failed.", "Ask something else.")
            return super().generate(turns)

        def stream(self, turn: Turn) -> Iterator[str]:
            yield from (said.text for said in self.generate([turn]))

    async def three() -> list[Answer | BaseException]:
        asked = ("Boil an egg?", "A bad egg?", "Boil two eggs?")
        return await asyncio.gather(*(answer(made, one) for one in asked), return_exceptions=True)

    with worker(index, Picky()) as made:
        one, two, three_ = asyncio.run(three())
    assert isinstance(one, Answer)
    assert isinstance(two, ModelError)
    assert isinstance(three_, Answer)


def test_closing_tells_those_who_wait(index: Index) -> None:
    async def close() -> None:
        waiting = asyncio.ensure_future(answer(made, "Boil an egg?"))
        await asyncio.sleep(0)  # it is submitted
        closing = asyncio.ensure_future(asyncio.to_thread(made.close))
        with pytest.raises(Stopping):
            await waiting
        with pytest.raises(Stopping):
            made.submit(Request("Boil an egg?"))
        reader.may_go_on.set()
        await closing

    reader = Held()
    with worker(index, reader) as made:
        asyncio.run(close())


def test_a_model_that_does_not_load_is_an_error_of_each_answer(index: Index, tmp_path: Path) -> None:
    with served(create_app(Assistant(index, tmp_path / "none"))) as address:
        assert httpx.get(f"{address}/readyz", timeout=PATIENCE).status_code == 503
        response = httpx.post(f"{address}/api/ask", json={"question": "Boil an egg?"}, timeout=PATIENCE)
        assert response.status_code == 500
        assert str(tmp_path) not in response.text


def test_beyond_what_it_takes_the_server_says_when_to_come_back(index: Index) -> None:
    statuses: list[int] = []
    reader = Held()
    app = create_app(Assistant(index, reader), ServingSettings(waiting=3, batch=1))
    with served(app) as address:

        def client() -> None:
            response = httpx.post(f"{address}/api/ask", json={"question": "Boil an egg?"}, timeout=PATIENCE)
            statuses.append(response.status_code)
            if response.status_code == 429:
                assert int(response.headers["retry-after"]) >= 1
                assert response.json()["error"]["code"] == "busy"

        threads = [threading.Thread(target=client) for _ in range(12)]
        for thread in threads:
            thread.start()
        until(lambda: len(statuses) == 9)
        reader.may_go_on.set()
        for thread in threads:
            thread.join()
        client()
    assert Counter(statuses) == {200: 3 + 1, 429: 9}


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnect_stops_the_generation(index: Index, stream: bool) -> None:
    reader = Held()
    with served(create_app(Assistant(index, reader))) as address:
        body = {"question": " ".join(["egg"] * 200), "stream": stream}
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE)
        connection.request("POST", "/api/ask", json.dumps(body), {"Content-Type": "application/json"})
        until(lambda: reader.words)
        connection.close()
        until(lambda: under_way(address) == 0)
        reader.may_go_on.set()
        httpx.post(f"{address}/api/ask", json={"question": "Boil it?"}, timeout=PATIENCE)
    assert reader.words <= 2 + 2


def test_turns_of_one_conversation_come_one_after_another(index: Index, tmp_path: Path) -> None:
    bot = Assistant(index, Echo(pause=0.05), sessions=tmp_path / "sessions.sqlite")
    with served(create_app(bot)) as address, httpx.Client(base_url=address, timeout=PATIENCE) as client:
        session = client.post("/api/sessions").json()["id"]
        cookies = dict(client.cookies)

        def ask(n: int) -> None:
            body = {"question": f"Boil {n} eggs?", "session": session}
            httpx.post(f"{address}/api/ask", json=body, cookies=cookies, timeout=PATIENCE)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        turns = client.get(f"/api/sessions/{session}").json()["turns"]
    assert [turn["turn"] for turn in turns] == [1, 2, 3, 4]
    assert sorted(turn["question"] for turn in turns) == [f"Boil {n} eggs?" for n in range(4)]
