"""A served assistant for tests: its corpus, its readers, and a server in this process with real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI

from rag_chat.types import Document, Generated, Prompt, Turn

PATIENCE = 60.0  # seconds: a busy machine is slow
CORPUS = [
    Document("travel/tromsø.md", "Tromsø lies in Norway.\n\nThe lights are seen from September.", "Tromsø"),
    Document("food/eggs.md", "Boil an egg for six minutes.", "Eggs", {"topic": "food"}),
]


class Echo:
    """Says the question again, word by word, so that whose answer it is can be seen.

    `pause`: seconds for each word of a stream, and for a whole batch. It counts what it was asked to do.
    """

    name = "echo"

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.batches: list[int] = []
        self.words = 0

    def prompt(self, turn: Turn) -> Prompt:
        return Prompt(turn.question)

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        self.batches.append(len(turns))
        time.sleep(self.pause)
        return [Generated(turn.question) for turn in turns]

    def stream(self, turn: Turn) -> Iterator[str]:
        self.batches.append(1)
        for n, word in enumerate(turn.question.split(" ")):
            time.sleep(self.pause)
            self.words += 1
            yield f" {word}" if n else word


class Held(Echo):
    """Says the first word of a stream, and goes on when it may; a whole batch comes then, too."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        said = super().generate(turns)
        self.may_go_on.wait(PATIENCE)
        return said

    def stream(self, turn: Turn) -> Iterator[str]:
        for word in super().stream(turn):
            yield word
            self.may_go_on.wait(PATIENCE)


def until(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.02)


def under_way(address: str) -> int:
    """How many requests a server is answering."""
    text = httpx.get(f"{address}/metrics", timeout=PATIENCE).text
    (line,) = [line for line in text.splitlines() if line.startswith("rag_chat_under_way ")]
    return int(float(line.split()[1]))


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve on a free port of this machine; yields the address."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", http="h11", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
