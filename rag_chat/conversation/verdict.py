"""What becomes of a generated text: an answer with its citations, or an abstention with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rag_chat.conversation.abstention import Calibration, features
from rag_chat.conversation.evidence import Evidence
from rag_chat.generation.citations import Support, find_support
from rag_chat.generation.extractive import ExtractiveReader
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.types import Embedder, Generated, Hit, Turn

ABSTENTION = "I could not find that in my documents."

QUOTED = "These are the words of a passage: the model was not sure of its own."

# What documents written earlier cannot know: "How is the weather today?"
_NOW = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|right now|this (?:week|weekend|month))\b", re.IGNORECASE
)
_MARKS = re.compile(r"^[\W_]+|[\W_]+$")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`confidence`: how likely it is that the passages hold the answer, None without a calibration."""

    text: str
    abstained: bool
    reason: str
    support: Support = field(default_factory=Support)
    confidence: float | None = None


def judge(
    said: Generated | None,
    turn: Turn,
    evidence: Evidence,
    embedder: Embedder,
    calibration: Calibration | None,
) -> Verdict:
    """Abstain where nothing was found or said, or where the answer is too likely to be wrong; else cite.

    Between the two, where the model is not sure of its own words, the passages speak for themselves.
    """
    if said is None:
        return _abstain("Nothing in the index matches the question.")
    if says_nothing(said.text):
        return _abstain("The passages found do not answer the question.")
    support = support_of(said, turn, embedder)
    reason, confidence = reason_of(support), None
    now = _NOW.search(turn.question)
    if now and not any(now.group().lower() in cited.quote.lower() for cited in support.citations):
        return _abstain(f"The passages found do not tell of {now.group().lower()}.")
    threshold = calibration.threshold if calibration else None
    if calibration and threshold is not None:
        known = features(turn, _measured(evidence.hits, turn, embedder), said, support)
        confidence = calibration.probability(known)
        if confidence < threshold:
            return _abstain(
                f"The passages found do not seem to answer the question ({confidence:.0%} sure).", confidence
            )
        if confidence < calibration.quote:
            (said,) = ExtractiveReader(embedder).generate([turn])
            support, reason = support_of(said, turn, embedder), QUOTED
    return Verdict(said.text, False, reason, support, confidence)


def support_of(said: Generated, turn: Turn, embedder: Embedder) -> Support:
    """What the passages of a turn support of what was said; serving and calibration both ask it here."""
    return find_support(
        said.text,
        turn.passages,
        question=turn.question,
        embedder=embedder,
        attention=said.attention,
    )


def reason_of(support: Support) -> str:
    """What an answer has to say of its support: nothing where there is some."""
    return "" if support.citations else "No passage supports this answer."


def _measured(hits: Sequence[Hit], turn: Turn, embedder: Embedder) -> Sequence[Hit]:
    """The hits with their cosines, which passages that were given do not have."""
    if all(hit.dense is not None for hit in hits):
        return hits
    (asked,) = embedder.embed([turn.query], query=True)
    vectors = embedder.embed([hit.passage.search_text for hit in hits])
    return [replace(hit, dense=float(vector @ asked)) for hit, vector in zip(hits, vectors, strict=True)]


def asks_of_now(question: str) -> bool:
    """Whether a question is about a time that documents written earlier cannot know."""
    return bool(_NOW.search(question))


def says_nothing(text: str) -> bool:
    """Whether a text is the word for an abstention, or holds no word at all."""
    return bare(text) in ("", UNANSWERABLE)


def bare(text: str) -> str:
    """The text as it is compared with the word for an abstention; marks alone say nothing."""
    return _MARKS.sub("", text).lower()


def _abstain(reason: str, confidence: float | None = None) -> Verdict:
    return Verdict(ABSTENTION, True, reason, confidence=confidence)
