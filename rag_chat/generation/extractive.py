"""A reader without a model: it answers with the sentence that is closest to the question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rag_chat.generation.citations import quotable
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.types import Embedder, Generated, Passage, Prompt, Turn

EXTRACTIVE = "extractive"


class ExtractiveReader:
    """Answers with one sentence of the passages, word for word.

    embedder: ranks the sentences by the sum of their cosines with the question and with the stand-alone
    query, so that a follow-up does not get the sentence that answered the turn before it. Without
    passages it says that the question is unanswerable.
    """

    name = EXTRACTIVE

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def prompt(self, turn: Turn) -> Prompt:
        """The query that the sentences are ranked by."""
        return Prompt(turn.query or turn.question)

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        """Answer each turn, in order."""
        return [Generated(self._best(turn)) for turn in turns]

    def stream(self, turn: Turn) -> Iterator[str]:
        """Yield the answer whole: there is nothing to wait for."""
        yield self._best(turn)

    def _best(self, turn: Turn) -> str:
        found = list(dict.fromkeys(s for p in turn.passages for s in _sentences(p)))
        if not found:
            return UNANSWERABLE
        asked = self._embedder.embed([turn.question, turn.query or turn.question], query=True).sum(axis=0)
        return found[int((self._embedder.embed(found) @ asked).argmax())]


def _sentences(passage: Passage) -> Iterator[str]:
    """The sentences a passage can answer with; of an exchange only the reply."""
    for spans in quotable(passage):
        for start, end in spans:
            yield " ".join(passage.text[start:end].split())
