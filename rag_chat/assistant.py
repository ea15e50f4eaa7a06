"""One turn, from question to answer: rewrite, retrieve, generate, then cite or abstain."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_chat.conversation.abstention import Calibration, read_calibration
from rag_chat.conversation.evidence import Evidence, find_evidence, given_evidence, turn_with
from rag_chat.conversation.memory import Memory, with_memories
from rag_chat.conversation.query import plans_for
from rag_chat.conversation.session import Session
from rag_chat.conversation.sessions import SessionStore, new_session_id
from rag_chat.conversation.verdict import ABSTENTION, asks_of_now, bare, judge
from rag_chat.errors import UsageError
from rag_chat.generation import load_generator
from rag_chat.generation.checkpoint import card_hash
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.generation.seq2seq import PACKAGED_READER, checkpoint_folder
from rag_chat.generation.together import Said, stream_together
from rag_chat.retrieval.index import Index
from rag_chat.types import Answer, Generated, Generator, Message, Passage, Prompt, Scalar, Turn

__all__ = ["ABSTENTION", "Assistant", "Request", "Session"]

Filter = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Request:
    """A question with what was said before it.

    Given passages take the place of retrieval; with a memory its owner's past conversations are searched too.
    """

    question: str
    history: tuple[Message, ...] = ()
    passages: tuple[Passage, ...] | None = None
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request with its evidence, ready for the generator."""

    turn: Turn
    evidence: Evidence
    settings: Mapping[str, Any]
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
        self._loading = threading.Lock()
        self._sessions = sessions

    @property
    def model(self) -> str:
        """The name of the model, whether or not it is loaded yet."""
        return str(self._model) if isinstance(self._model, str | Path) else self._model.name

    @property
    def generator(self) -> Generator:
        """The model, loaded when it is first needed."""
        if not isinstance(self._model, str | Path):
            return self._model
        with self._loading:
            if self._generator is None:
                self._generator = load_generator(
                    self._model, embedder=self.index.embedder, device=self._device
                )
        return self._generator

    def session(self, name: str | None = None, *, owner: str = "", remember: bool = False) -> Session:
        """Open the owner's conversation of that name, or begin a new one; use it in a `with` statement.

        Conversations of other owners are as if they did not exist. The owner "" is the local user. With
        `remember` the owner's other conversations become retrievable, for this owner alone.
        """
        store, name = self.store(owner), name or new_session_id()
        memory = Memory(store, name, self.index.embedder) if remember else None
        return Session(self, store, name, memory)

    def store(self, owner: str = "") -> SessionStore:
        """The kept conversations of an owner."""
        return SessionStore(self._sessions, owner=owner)

    def load(self) -> None:
        """Load the embedder and the model now, so that the first answer does not wait for them."""
        _ = self.index.embedder, self.generator

    def ask(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        filter: Filter | None = None,
        memory: Memory | None = None,
    ) -> Answer:
        """Answer one question outside any session."""
        return self.answer([Request(question, tuple(history), memory=memory)], filter=filter)[0]

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
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        filter: Filter | None = None,
        memory: Memory | None = None,
    ) -> Iterator[str | Answer]:
        """Yield the answer piece by piece, then the Answer itself; the pieces joined are its text.

        An answer that may yet be withheld, as the model was calibrated, comes in one piece.
        """
        for _, said in self.stream_many([Request(question, tuple(history), memory=memory)], filter=filter):
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
        for place, piece in self._pieces(turns, lambda place: wanted(rows[place])):
            row = rows[place]
            if isinstance(piece, Generated):
                took = 1000 * (time.perf_counter() - started)
                yield from ((row, said) for said in self._told(prepared[row], piece, sent[row], took))
                continue
            texts[row] += piece
            if not UNANSWERABLE.startswith(bare(texts[row])):
                yield row, texts[row][sent[row] :]
                sent[row] = len(texts[row])

    def _pieces(self, turns: Sequence[Turn], wanted: Callable[[int], bool]) -> Said:
        """What the model says, piece by piece; whole where it may yet be withheld."""
        if not turns:
            return iter(())
        whole = [self._calibration is not None or asks_of_now(turn.question) for turn in turns]
        pieces = stream_together(self.generator, turns, wanted)
        return (one for one in pieces if isinstance(one[1], Generated) or not whole[one[0]])

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
            asked = [Turn(one.question, one.history) for one in requests if one.passages is None]
            plans = plans_for(asked, self.generator)
        with _timed(timings, "retrieve"):
            found = iter(find_evidence(self.index, plans, self.k, filter=filter))
            evidence = [
                self._with_memory(next(found), request)
                if request.passages is None
                else given_evidence(request.question, request.passages)
                for request in requests
            ]
        share = {name: ms / max(1, len(requests)) for name, ms in timings.items()}
        settings = {"k": self.k, "filter": dict(filter or {}), "index": str(self.index.path)}
        return [
            _Prepared(turn_with(request.question, request.history, one.hits), one, settings, share)
            for request, one in zip(requests, evidence, strict=True)
        ]

    def _with_memory(self, evidence: Evidence, request: Request) -> Evidence:
        if request.memory is None:
            return evidence
        memories = request.memory.search(evidence.query)
        return replace(evidence, hits=tuple(with_memories(evidence.hits, memories, self.k)))

    def _finish(self, prepared: _Prepared, said: Generated | None, generate_ms: float) -> Answer:
        """Attach citations, or abstain and say why; and keep all that it takes to answer so again."""
        turn, timings = prepared.turn, {**prepared.timings, "generate": generate_ms}
        with _timed(timings, "cite"):
            verdict = judge(said, turn, prepared.evidence, self.index.embedder, self._calibration)
        prompt = (said.prompt or self.generator.prompt(turn)) if said else Prompt("")
        return Answer(
            text=verdict.text,
            citations=verdict.support.citations,
            query=prepared.evidence.query,
            abstained=verdict.abstained,
            reason=verdict.reason,
            hits=prepared.evidence.hits,
            model=self.model,
            session="",
            timings_ms={name: round(ms, 1) for name, ms in timings.items()},
            prompt=prompt.text,
            dropped=prompt.dropped,
            unsupported=verdict.support.unsupported,
            queries=prepared.evidence.queries,
            confidence=verdict.confidence,
            settings=prepared.settings,
            hashes=self._hashes(turn, prompt),
        )

    def _hashes(self, turn: Turn, prompt: Prompt) -> dict[str, str]:
        """What an answer depends on, so that another can be told from the same one."""
        passages = "\n".join(f"{passage.id}\t{passage.text}" for passage in turn.passages)
        return {"model": self._model_hash, "passages": _digest(passages), "prompt": _digest(prompt.text)}

    @property
    def _folder(self) -> Path | None:
        """The checkpoint of the model; None for a Generator that was given."""
        return checkpoint_folder(self._model) if isinstance(self._model, str | Path) else None

    @cached_property
    def _calibration(self) -> Calibration | None:
        """When the model shall abstain, where it was fitted for that."""
        return read_calibration(folder) if (folder := self._folder) else None

    @cached_property
    def _model_hash(self) -> str:
        return card_hash(folder) if (folder := self._folder) else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = 1000 * (time.perf_counter() - started)
