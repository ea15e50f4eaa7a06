"""The values that flow through the library, and the three seams where parts can be exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Scalar = str | int | float | bool
Metadata = Mapping[str, Scalar]
Role = Literal["user", "assistant", "system"]
Kind = Literal["topic", "dialogue"]
Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class Document:
    """One topic document; `source` is its identity and is unique in an index."""

    source: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    An assistant message may name its evidence (`sources`, document identities), carry it (`passages`),
    or say that there was none (`abstained`). A user message may carry what it means without the
    conversation (`rewrite`), for training.
    """

    role: Role
    content: str
    sources: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    abstained: bool = False
    rewrite: str = ""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation; `id` is its identity and is unique in an index."""

    id: str
    messages: tuple[Message, ...]
    topic: str = ""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that could not be read: the file, the line in it (0: the whole file), and why."""

    source: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of one document: document.text[start:end] == text.

    `context` is what a reader needs to place the span: the headings above it, or the turn before it.
    A dialogue passage is one exchange; its `situation` (what is embedded) leaves the reply out.
    """

    id: str
    source: str
    title: str
    text: str
    start: int
    end: int
    kind: Kind = "topic"
    context: str = ""
    situation: str = ""
    metadata: Metadata = field(default_factory=dict)

    @property
    def search_text(self) -> str:
        """What is embedded and indexed for this passage."""
        if self.kind == "dialogue":
            return self.situation
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query.

    Higher scores are better. `score` is the cosine in [-1, 1] for dense search, the fused score for
    hybrid and BM25 for lexical; `dense` and `lexical` keep the parts where they are known.
    """

    passage: Passage
    score: float
    rank: int
    dense: float | None = None
    lexical: float | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A text that was searched for, and its weight in (0, 1] among the queries of its turn."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Citation:
    """A span of one passage that supports a sentence of the answer.

    document.text[start:end] == quote, and the span lies within the passage named. `score` is the
    support in [0, 1].
    """

    passage_id: str
    source: str
    title: str
    quote: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the assistant said in one turn, and what it rests on.

    `query` is what was searched for, the heaviest of `queries`; `reason` says why the assistant
    abstained, that it quotes a passage, or that none supports the answer (else it is empty).
    `confidence` is the calibrated chance that the passages hold the answer, where the model is calibrated.
    `unsupported` are the sentences that no passage supports: they are not cited. `settings` (k, filter,
    index) and `hashes` (of model, passages and prompt) say what it takes to come to the same answer again.
    """

    text: str
    citations: tuple[Citation, ...]
    query: str
    abstained: bool
    reason: str
    hits: tuple[Hit, ...]
    model: str
    session: str
    timings_ms: Mapping[str, float]
    prompt: str = ""
    dropped: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()
    confidence: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One user turn as a generator sees it: the question, what was said before, and the evidence.

    `query` is the question as it was searched for, when that is not the question itself.
    """

    question: str
    history: tuple[Message, ...] = ()
    passages: tuple[Passage, ...] = ()
    query: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given for a turn, and a line for each thing that did not fit into it."""

    text: str
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model said to a turn, and what it can tell about it.

    `log_likelihood` is the mean natural-log probability of the tokens generated, <= 0. `attention` is the
    share of cross-attention that went to each passage of the turn, in their order, summing to 1; empty
    where it is not known. `prompt` is what the model was given, where the generator keeps it.
    `abstaining` is the log-probability that it would have abstained, where it was kept from that.
    """

    text: str
    log_likelihood: float | None = None
    attention: tuple[float, ...] = ()
    prompt: Prompt | None = None
    abstaining: float | None = None


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """What makes two embedders interchangeable: the same texts give the same vectors."""

    name: str
    revision: str
    dimension: int
    query_prefix: str = ""
    document_prefix: str = ""
    pooling: str = "mean"
    precision: Precision = "fp32"


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def identity(self) -> EmbedderIdentity: ...

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Return (len(texts), dimension) float32 with unit rows, in the order of `texts`."""
        ...


class Retriever(Protocol):
    """Finds passages for a query."""

    def search(self, query: str, k: int = 5, *, filter: Mapping[str, Scalar] | None = None) -> list[Hit]:
        """Return up to k hits, best first."""
        ...


class Generator(Protocol):
    """Answers turns from their passages."""

    @property
    def name(self) -> str: ...

    def prompt(self, turn: Turn) -> Prompt:
        """Return what the model is given for this turn."""
        ...

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        """Answer each turn, in order."""
        ...

    def stream(self, turn: Turn) -> Iterator[str]:
        """Yield the answer to one turn piece by piece; the pieces joined are the answer."""
        ...
