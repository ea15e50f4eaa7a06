"""Decide turn by turn whether a question needs the history, and make it stand alone when it does."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_chat.types import Message

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")
_REFERS_BACK = frozenset(
    "it its they them their theirs he him his she her hers this that these those there then one ones "
    "other others another same both either neither former latter else instead again too".split()
)
_GOES_ON = (
    "and ",
    "but ",
    "or ",
    "so ",
    "then ",
    "also ",
    "what about",
    "how about",
    "what if",
    "why",
    "in which",
)
_NO_CONTENT = frozenset(
    "a an and any are as at be been but by can could did do does for from had has have how i if in into "
    "is just like me more much many my of ok on or please so some tell than the then to us was we were "
    "what when where which who why will with would yes no you your long far often old big about "
    "know want need get also only really actually hi hello hey thanks thank s t".split()
)
ENOUGH = 3
"""A turn with fewer content words goes on with what was said before. On the starter dev dialogues, 3 finds
the document of 90% of the grounded turns among five passages, and the raw turn alone finds it for 57%."""


def stand_alone(question: str, history: Sequence[Message]) -> str:
    """Return what to search for: the question alone, or put after the turn it goes on with.

    That turn is the last one of the user that stood alone. A question that opens a conversation, or
    names its own subject and refers to nothing before it, is returned as it is.
    """
    asked = [message.content for message in history if message.role == "user"]
    if not asked or not depends_on_history(question):
        return question
    subject = next((turn for turn in reversed(asked) if not depends_on_history(turn)), None)
    if subject is None:  # only short turns so far: the one that says most
        subject = max(asked, key=lambda turn: len(_content(turn)))
    return f"{subject} {question}" if _content(subject) else question


def depends_on_history(question: str) -> bool:
    """Whether a turn makes sense only with the turns before it.

    It does when it refers back ("is it spicy?"), goes on ("and in winter?") or says too little to be
    a question of its own ("how long?").
    """
    said = len(_content(question))
    refers = any(word in _REFERS_BACK for word in _WORD.findall(question.lower()))
    goes_on = question.strip().lower().startswith(_GOES_ON) and said <= 4
    return refers or goes_on or said < ENOUGH


def _content(turn: str) -> list[str]:
    """The words of a turn that say what it is about."""
    words = _WORD.findall(turn.lower())
    return [word for word in words if word not in _NO_CONTENT and word not in _REFERS_BACK]
