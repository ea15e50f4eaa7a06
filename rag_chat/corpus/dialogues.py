"""Dialogues from ChatterBot YAML and from plain text with a speaker before each turn."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rag_chat.corpus.records import dialogue, said
from rag_chat.corpus.sources import Fault, Record, SourceFile
from rag_chat.corpus.text import read_text
from rag_chat.errors import require
from rag_chat.types import Message

MAX_DEPTH = 50  # ChatterBot's files have 3; PyYAML's time grows with the square of the depth
TAG = re.compile(r"(A|B|User|Assistant|Human|Bot):(?:\s+(.*)|$)")

Turn = tuple[int, str, str]
"""The line a turn begins in, its speaker, and what was said."""


def read_chatterbot(file: SourceFile) -> Iterator[Record]:
    """Read ChatterBot YAML: `conversations:` lists turns of user and assistant in alternation.

    The first of `categories:` is the topic. Aliases are refused (they can blow up a small file).
    Every scalar is text, so that the reply "Yes" stays "Yes". Needs the extra `yaml`.
    """
    loaded = _load_yaml(read_text(file.path))
    conversations = loaded.get("conversations") if isinstance(loaded, dict) else None
    if not isinstance(conversations, list):
        raise Fault("it has no list of 'conversations:'")
    categories = loaded.get("categories")
    topic = categories[0] if isinstance(categories, list) and categories else categories
    for number, turns in enumerate(conversations, 1):
        try:
            yield 0, dialogue(file, number, _alternating(turns), {"topic": topic})
        except Fault as fault:
            yield 0, Fault(f"conversation {number}: {fault.reason}")


def _load_yaml(text: str) -> Any:
    yaml = require("yaml", "yaml")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            line = event.start_mark.line + 1
            if getattr(event, "anchor", None) is not None:
                raise Fault("YAML anchors and aliases are refused", line)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise Fault("it is nested too deeply", line)
        return yaml.load(text, Loader=yaml.BaseLoader)  # builds nothing but str, list and dict
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not readable"
        raise Fault(f"not valid YAML: {problem}", mark.line + 1 if mark else 0) from None


def _alternating(turns: Any) -> list[Message]:
    if not isinstance(turns, list):
        raise Fault("it is not a list of turns")
    roles = itertools.cycle(("user", "assistant"))
    return [
        said(role, turn, f"turn {n}") for n, (role, turn) in enumerate(zip(roles, turns, strict=False), 1)
    ]


def conversations_in(text: str) -> list[list[Turn]]:
    """Return the conversations of a text in which every turn begins with its speaker, else [].

    Speakers are `A:`/`B:`, `User:`/`Assistant:` or `Human:`/`Bot:`; an indented line continues a
    turn, a blank line ends a conversation. With any other line, or one speaker alone, it is none.
    """
    conversations: list[list[Turn]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        turns = conversations[-1]
        if not line.strip():
            if turns:
                conversations.append([])
        elif match := TAG.match(line):
            turns.append((number, match[1], match[2] or ""))
        elif turns and line[0] in " \t":
            start, speaker, so_far = turns[-1]
            turns[-1] = (start, speaker, f"{so_far}\n{line.strip()}")
        else:
            return []
    found = [turns for turns in conversations if turns]
    return found if len({speaker for turns in found for _, speaker, _ in turns}) > 1 else []


def tagged_dialogues(conversations: Sequence[list[Turn]], file: SourceFile) -> Iterator[Record]:
    """Build the dialogues that `conversations_in` found in a file."""
    for number, turns in enumerate(conversations, 1):
        line = turns[0][0]
        try:
            messages = [said(speaker, content, f"line {at}") for at, speaker, content in turns]
            yield line, dialogue(file, number, messages, {})
        except Fault as fault:
            yield line, fault
