"""Documents and dialogues to passages, with exact offsets into their text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_chat.corpus.exchanges import Exchange, exchanges_of
from rag_chat.corpus.packing import Budget, TokenSpans, pack, sections
from rag_chat.types import Dialogue, Document, Message, Passage

__all__ = ["TokenSpans", "chunk_dialogue", "chunk_document", "dialogue_document"]

LABELS = {"user": "User", "assistant": "Assistant", "system": "System"}


def chunk_document(
    document: Document, token_spans: TokenSpans, *, chunk_tokens: int, overlap: int
) -> list[Passage]:
    """Cut a document into passages of at most `chunk_tokens` tokens, in order.

    A passage ends where a paragraph does, or else a sentence, or else a word. The next one under
    the same heading repeats whole sentences of up to `overlap` tokens from its end, unless without
    them the section is done in one passage less. A heading begins a new passage and is part of the
    `context` ("Title > Section"), not of the text. Every other character that is not white space is
    in at least one passage. A document of headings alone has none.
    """
    budget = Budget(document.text, token_spans, chunk_tokens)
    passages: list[Passage] = []
    for section in sections(document.text):
        units = [unit for spans in section.paragraphs for unit in budget.units(spans)]
        above = section.headings
        if above[:1] == (document.title,):
            above = above[1:]  # the title of most files is their first heading
        for start, end in pack(units, budget, overlap):
            passages.append(
                Passage(
                    id=f"{document.source}#p{len(passages)}",
                    source=document.source,
                    title=document.title,
                    text=document.text[start:end],
                    start=start,
                    end=end,
                    context=" > ".join(filter(None, (document.title, *above))),
                    metadata=dict(document.metadata),
                )
            )
    return passages


def dialogue_document(dialogue: Dialogue) -> Document:
    """Return the dialogue as a document; the spans of its passages refer to this text.

    The text is "User: ...", "Assistant: ..." and "System: ..." turns, each ended by a line break.
    """
    topic = dialogue.topic or str(dialogue.metadata.get("topic", ""))
    return Document(
        source=dialogue.id,
        text="".join(map(_rendered, dialogue.messages)),
        title=dialogue.topic or "Conversation",
        metadata={**dialogue.metadata, "topic": topic},
    )


def _rendered(message: Message) -> str:
    return f"{LABELS[message.role]}: {message.content}\n"


def chunk_dialogue(dialogue: Dialogue, token_spans: TokenSpans, *, chunk_tokens: int) -> list[Passage]:
    """Cut a dialogue into passages of kind "dialogue", one for each exchange, in order.

    The `situation` is the user's turn after the turns before it, the last `chunk_tokens` tokens of
    them; the reply is not in it. The `context` is what was said since the exchange before began.
    Tiny exchanges ("hi", "hello") belong to the passage of the next one, or of the last. A user
    turn without a reply and a reply that abstained hold no knowledge and are no passages.
    """
    document = dialogue_document(dialogue)
    starts = [0]
    for message in dialogue.messages:
        starts.append(starts[-1] + len(_rendered(message)))
    passages: list[Passage] = []
    for exchange in exchanges_of(dialogue.messages):
        before = _asked_before(dialogue.messages, exchange.first)
        start, end = starts[exchange.first], starts[exchange.last + 1] - 1
        passages.append(
            Passage(
                id=f"{dialogue.id}#p{len(passages)}",
                source=dialogue.id,
                title=document.title,
                text=document.text[start:end],
                start=start,
                end=end,
                kind="dialogue",
                context=document.text[starts[before] : start].strip(),
                situation=_situation(dialogue.messages, exchange, token_spans, chunk_tokens),
                metadata=dict(document.metadata),
            )
        )
    return passages


def _asked_before(messages: Sequence[Message], first: int) -> int:
    """Return where the user's turns before messages[first] begin, or 0 when there are none."""
    for i in range(first - 1, 0, -1):
        if messages[i].role == "user" and messages[i - 1].role != "user":
            return i
    return 0


def _situation(messages: Sequence[Message], exchange: Exchange, token_spans: TokenSpans, limit: int) -> str:
    text = "\n".join(messages[i].content for i in exchange.asked)
    for message in reversed(messages[: exchange.asked[0]]):
        if len(token_spans(text)) >= limit:
            break
        if message.role != "system":
            text = f"{message.content}\n{text}"
    return _tail(text, token_spans, limit)


def _tail(text: str, token_spans: TokenSpans, limit: int) -> str:
    """Return the last `limit` tokens of a text, from the beginning of a word where there is one."""
    text = text.strip()
    while len(tokens := token_spans(text)) > limit:
        start = max(tokens[-limit][0], 1)
        if not text[start - 1].isspace():
            space = re.search(r"\s", text[start:])
            start += space.start() if space else 0
        text = text[start:].strip()
    return text
