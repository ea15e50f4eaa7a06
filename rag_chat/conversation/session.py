"""A conversation that remembers: each turn is answered with those before it, and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, NoReturn, Protocol

from rag_chat.conversation.memory import Memory
from rag_chat.conversation.sessions import SessionStore
from rag_chat.errors import UsageError
from rag_chat.types import Answer, Message, Scalar

Filter = Mapping[str, Scalar]


class Answering(Protocol):
    """What answers the turns of a session."""

    def stream(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        filter: Filter | None = None,
        memory: Memory | None = None,
    ) -> Iterator[str | Answer]:
        """Yield the answer piece by piece, then the Answer itself."""
        ...

    def ask(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        filter: Filter | None = None,
        memory: Memory | None = None,
    ) -> Answer: ...


class Session:
    """A conversation that remembers: what is asked and answered is kept in SQLite.

    With a memory, the owner's other conversations are searched as well.
    """

    def __init__(
        self, assistant: Answering, store: SessionStore, name: str, memory: Memory | None = None
    ) -> None:
        self.id = name
        self.last: Answer | None = None
        self._assistant = assistant
        self._store = store
        self._memory = memory

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
        answer = self._assistant.ask(question, self.history, filter=filter, memory=self._memory)
        return self._keep(question, answer)

    def stream(self, question: str, *, filter: Filter | None = None) -> Iterator[str]:
        """Yield the answer piece by piece; the turn is kept, and is `last`, once the answer is whole."""
        yield from self._stream(question, self.history, filter)

    def retry(self, *, filter: Filter | None = None) -> Iterator[str]:
        """Ask the last question again, as `stream` does; the new answer takes the old one's place."""
        *before, question, _ = self.history or _nothing_asked()
        yield from self._stream(question.content, before, filter, in_place_of=len(before) // 2 + 1)

    def _stream(
        self,
        question: str,
        history: Sequence[Message],
        filter: Filter | None,
        *,
        in_place_of: int | None = None,
    ) -> Iterator[str]:
        for piece in self._assistant.stream(question, history, filter=filter, memory=self._memory):
            if isinstance(piece, Answer):
                self._keep(question, piece, in_place_of)
            else:
                yield piece

    def _keep(self, question: str, answer: Answer, in_place_of: int | None = None) -> Answer:
        kept = replace(answer, session=self.id)
        self._store.append_turn(self.id, question, kept, in_place_of=in_place_of)
        self.last = kept
        return kept


def _nothing_asked() -> NoReturn:
    raise UsageError("There is nothing to ask again yet.", "Ask a question first.")
