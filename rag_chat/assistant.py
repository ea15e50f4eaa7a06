"""One turn, from question to answer: rewrite, retrieve, generate, then cite or abstain."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from rag_chat.conversation.query import stand_alone
from rag_chat.conversation.sessions import SessionStore, new_session_id
from rag_chat.errors import UsageError
from rag_chat.generation import load_generator
from rag_chat.generation.citations import Support, find_support
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.generation.seq2seq import PACKAGED_READER
from rag_chat.generation.together import stream_together
from rag_chat.retrieval.index import Index
from rag_chat.types import (
    Answer,
    Generated,
    Generator,
    Hit,
    Message,
    Passage,
    Prompt,
    Scalar,
    Turn,
)

ABSTENTION = "I could not find that in my documents."

Filter = Mapping[str, Scalar]

_MARKS = re.compile(r"^[\W_]+|[\W_]+$")


@dataclass(frozen=True, slots=True)
class Request:
    """A question with what was said before it; given passages take the place of retrieval."""

    question: str
    history: tuple[Message, ...] = ()
    passages: tuple[Passage, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request with its evidence, ready for the generator."""

    turn: Turn
    hits: tuple[Hit, ...]
    timings: dict[str, float]


class Assistant:
    """Answers questions over an index.

    model: "reader" (the packaged model), "extractive", "provider:name" for a LangChain chat model, a
    folder or name of an encoder-decoder, or any Generator. k: passages put to the model. sessions: where
    conversations are kept (by default the user's data folder).
    """

    def __init__(
        self,
        index: Index,
        model: str | Path | Generator = PACKAGED_READER,
        *,
        k: int = 5,
        device: str | None = None,
        sessions: Path | None = None,
    ) -> None:
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}.", "Try 5.")
        self.index = index
        self.k = k
        self._model = model
        self._device = device
        self._generator: Generator | None = None
        self._sessions = sessions

    @property
    def generator(self) -> Generator:
        """The model, loaded when it is first needed."""
        if self._generator is None:
            if isinstance(self._model, str | Path):
                self._generator = load_generator(
                    self._model, embedder=self.index.embedder, device=self._device
                )
            else:
                self._generator = self._model
        return self._generator

    def session(self, name: str | None = None, *, owner: str = "") -> Session:
        """Open the owner's conversation of that name, or begin a new one; use it in a `with` statement.

        Conversations of other owners are as if they did not exist. The owner "" is the local user.
        """
        return Session(self, self.store(owner), name or new_session_id())

    def store(self, owner: str = "") -> SessionStore:
        """The kept conversations of an owner."""
        return SessionStore(self._sessions, owner=owner)

    def load(self) -> None:
        """Load the embedder and the model now, so that the first answer does not wait for them."""
        _ = self.index.embedder, self.generator

    def ask(self, question: str, history: Sequence[Message] = (), *, filter: Filter | None = None) -> Answer:
        """Answer one question outside any session."""
        return self.answer([Request(question, tuple(history))], filter=filter)[0]

    def answer(self, requests: Sequence[Request], *, filter: Filter | None = None) -> list[Answer]:
        """Answer many questions at once, in order; they are searched and generated in batches.

        Timings are shares of the batch's.
        """
        prepared = self._prepare(requests, filter)
        with_evidence = [p for p in prepared if p.turn.passages]
        timings: dict[str, float] = {}
        with _timed(timings, "generate"):
            said = iter(self.generator.generate([p.turn for p in with_evidence]) if with_evidence else [])
        share = timings["generate"] / max(1, len(with_evidence))
        return [self._finish(p, next(said) if p.turn.passages else None, share) for p in prepared]

    def stream(
        self, question: str, history: Sequence[Message] = (), *, filter: Filter | None = None
    ) -> Iterator[str | Answer]:
        """Yield the answer piece by piece, then the Answer itself; the pieces joined are its text."""
        for _, said in self.stream_many([Request(question, tuple(history))], filter=filter):
            yield said

    def stream_many(
        self,
        requests: Sequence[Request],
        *,
        filter: Filter | None = None,
        wanted: Callable[[int], bool] = lambda _: True,
    ) -> Iterator[tuple[int, str | Answer]]:
        """Answer many questions together, and yield what is said with the number of its request.

        Of each request come what `stream` yields. A request that is not `wanted` any more is given up.
        """
        prepared = self._prepare(requests, filter)
        started = time.perf_counter()
        rows = [row for row, one in enumerate(prepared) if one.turn.passages]
        for row in set(range(len(prepared))) - set(rows):
            yield from ((row, said) for said in self._told(prepared[row], None, 0, 0.0))
        texts, sent = dict.fromkeys(rows, ""), dict.fromkeys(rows, 0)
        turns = [prepared[row].turn for row in rows]
        pieces = stream_together(self.generator, turns, lambda place: wanted(rows[place])) if turns else ()
        for place, piece in pieces:
            row = rows[place]
            if isinstance(piece, Generated):
                took = 1000 * (time.perf_counter() - started)
                yield from ((row, said) for said in self._told(prepared[row], piece, sent[row], took))
                continue
            texts[row] += piece
            if not UNANSWERABLE.startswith(_bare(texts[row])):
                yield row, texts[row][sent[row] :]
                sent[row] = len(texts[row])

    def _told(
        self, prepared: _Prepared, said: Generated | None, sent: int, generate_ms: float
    ) -> Iterator[str | Answer]:
        """Yield the end of a stream of which `sent` characters are out: its text if none are, its Answer."""
        answer = self._finish(prepared, said, generate_ms)
        if not sent:
            yield answer.text
        yield answer

    def _prepare(self, requests: Sequence[Request], filter: Filter | None) -> list[_Prepared]:
        """Find the evidence for each request."""
        if not all(request.question.strip() for request in requests):
            raise UsageError("The question is empty.", "Ask something, e.g. rag-chat ask 'How hot is it?'")
        timings: dict[str, float] = {}
        with _timed(timings, "rewrite"):
            queries = [stand_alone(request.question, request.history) for request in requests]
        search = [query for query, r in zip(queries, requests, strict=True) if r.passages is None]
        with _timed(timings, "retrieve"):
            found = iter(self.index.search_many(search, self.k, filter=filter) if search else [])
        share = {name: ms / max(1, len(requests)) for name, ms in timings.items()}
        prepared = []
        for request, query in zip(requests, queries, strict=True):
            given = [Hit(passage, 1.0, n) for n, passage in enumerate(request.passages or (), 1)]
            hits = tuple(next(found) if request.passages is None else given)
            turn = Turn(request.question, request.history, tuple(hit.passage for hit in hits), query)
            prepared.append(_Prepared(turn, hits, share))
        return prepared

    def _finish(self, prepared: _Prepared, said: Generated | None, generate_ms: float) -> Answer:
        """Attach citations, or abstain and say why."""
        support, reason, timings = Support(), "", dict(prepared.timings)
        timings["generate"] = generate_ms
        text = said.text if said else ""
        abstained = _bare(text) in ("", UNANSWERABLE)
        if said is None:
            reason = "Nothing in the index matches the question."
        elif abstained:
            reason = "The passages found do not answer the question."
        else:
            with _timed(timings, "cite"):
                support = find_support(
                    text,
                    prepared.turn.passages,
                    question=prepared.turn.question,
                    embedder=self.index.embedder,
                    attention=said.attention,
                )
            reason = "" if support.citations else "No passage supports this answer."
        prompt = (said.prompt or self.generator.prompt(prepared.turn)) if said else Prompt("")
        return Answer(
            text=ABSTENTION if abstained else text,
            citations=support.citations,
            query=prepared.turn.query,
            abstained=abstained,
            reason=reason,
            hits=prepared.hits,
            model=self.generator.name if said else str(self._model),
            session="",
            timings_ms={name: round(ms, 1) for name, ms in timings.items()},
            prompt=prompt.text,
            dropped=prompt.dropped,
            unsupported=support.unsupported,
        )


class Session:
    """A conversation that remembers: what is asked and answered is kept in SQLite."""

    def __init__(self, assistant: Assistant, store: SessionStore, name: str) -> None:
        self.id = name
        self.last: Answer | None = None
        self._assistant = assistant
        self._store = store

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open between turns."""

    @property
    def history(self) -> tuple[Message, ...]:
        """What was said so far, oldest first. Retrieved text is never part of it."""
        return self._store.history(self.id)

    @property
    def trace(self) -> Mapping[str, Any] | None:
        """How the last turn was answered, as `SessionStore.traces` keeps it; None before the first."""
        return self._store.last_answer(self.id)

    def ask(self, question: str, *, filter: Filter | None = None) -> Answer:
        """Answer the next turn of this conversation and keep both."""
        return self._keep(question, self._assistant.ask(question, self.history, filter=filter))

    def stream(self, question: str, *, filter: Filter | None = None) -> Iterator[str]:
        """Yield the answer piece by piece; the turn is kept, and is `last`, once the answer is whole."""
        yield from self._stream(question, self.history, filter)

    def retry(self, *, filter: Filter | None = None) -> Iterator[str]:
        """Ask the last question again, as `stream` does; the new answer takes the old one's place."""
        *before, question, _ = self.history or _nothing_asked()
        yield from self._stream(question.content, before, filter, again=True)

    def _stream(
        self, question: str, history: Sequence[Message], filter: Filter | None, *, again: bool = False
    ) -> Iterator[str]:
        for piece in self._assistant.stream(question, history, filter=filter):
            if isinstance(piece, Answer):
                if again:
                    self._store.drop_last_turn(self.id)
                self._keep(question, piece)
            else:
                yield piece

    def _keep(self, question: str, answer: Answer) -> Answer:
        kept = replace(answer, session=self.id)
        self._store.append_turn(self.id, question, kept)
        self.last = kept
        return kept


def _nothing_asked() -> NoReturn:
    raise UsageError("There is nothing to ask again yet.", "Ask a question first.")


def _bare(text: str) -> str:
    """The text as it is compared with the word for an abstention; marks alone say nothing."""
    return _MARKS.sub("", text).lower()


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = 1000 * (time.perf_counter() - started)
