"""`rag-chat chat`: a conversation in the terminal, or from a pipe."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from rag_chat.commands.opening import opened_assistant
from rag_chat.commands.options import (
    device_option,
    filter_option,
    index_option,
    k_option,
    model_option,
    option,
    owner_option,
    remember_option,
    rerank_option,
    session_option,
)
from rag_chat.commands.printing import complain, note, say
from rag_chat.commands.results import say_hits, say_support, say_trace
from rag_chat.errors import RagChatError, SessionError, UsageError

if TYPE_CHECKING:
    from rag_chat.assistant import Assistant, Session

PROMPT = "> "
HELP = """\
/why      how the last answer came about: queries, passages, prompt, timings, hashes
/sources  the passages that were put to the model, with their text
/retry    ask the last question again
/quit     end (so does Ctrl-D); Ctrl-C stops the current answer"""


@click.command()
@index_option
@model_option
@option("-c", "--continue", "go_on", is_flag=True, help="Go on with the last conversation.")
@session_option
@owner_option
@remember_option
@k_option
@filter_option
@rerank_option
@device_option
def chat(
    folder: Path,
    model: str,
    go_on: bool,
    session: str | None,
    owner: str,
    remember: bool,
    k: int,
    filter: Mapping[str, str] | None,
    rerank: str | None,
    device: str | None,
) -> None:
    """Talk with an index; the conversation is kept, and /help tells the rest."""
    if go_on and session:
        raise UsageError("-c and --session name two conversations.", "Give one of them.")
    if go_on:
        session = _last_session(folder, owner)
    with (
        opened_assistant(folder, model, k, device, rerank) as bot,
        bot.session(session, owner=owner, remember=remember) as conversation,
    ):
        note(_greeting(bot, conversation, folder))
        talk = Talk(conversation, filter)
        talk.run(_questions())
    if talk.failed and not sys.stdin.isatty():
        raise SessionError("Not every question was answered.", "See the messages above.")


def _last_session(folder: Path, owner: str) -> str:
    from rag_chat.conversation.sessions import SessionStore

    last = SessionStore(owner=owner).last_session()
    if last is None:
        raise SessionError("There is no conversation to go on with.", f"Begin one: rag-chat chat -i {folder}")
    return last


def _greeting(bot: Assistant, conversation: Session, folder: Path) -> str:
    """Say what was loaded, which happens here so that the first answer does not wait for it."""
    turns = len(conversation.history) // 2
    _ = bot.index.embedder
    return (
        f"{folder}: {bot.index.info()['passages']} passages, model {bot.generator.name}, "
        f"session {conversation.id}{f' ({turns} turns so far)' if turns else ''}. "
        f"/help for help; go on later with: rag-chat chat -i {folder} -c"
    )


class Talk:
    """One conversation: each line is a question or a command. `failed`: a line led to an error."""

    def __init__(self, session: Session, filter: Mapping[str, str] | None) -> None:
        self.failed = False
        self._session = session
        self._filter = filter

    def run(self, lines: Iterator[str]) -> None:
        """Answer until the lines end or one of them is /quit."""
        commands = {"/why": self._why, "/sources": self._sources, "/retry": self._retry, "/help": _help}
        for line in map(str.strip, lines):
            if line == "/quit":
                return
            try:
                if line in commands:
                    commands[line]()
                elif line.startswith("/"):
                    raise UsageError(f"There is no command {line.split()[0]}.", "/help names them all.")
                elif line:
                    self._ask(line)
            except RagChatError as error:
                complain(error)
                self.failed = True

    def _ask(self, question: str) -> None:
        self._say(self._session.stream(question, filter=self._filter))

    def _retry(self) -> None:
        self._say(self._session.retry(filter=self._filter))

    def _say(self, answer: Iterator[str]) -> None:
        pieces = cast(Generator[str], answer)
        try:
            for piece in pieces:
                say(piece, end="")
        except KeyboardInterrupt:
            pieces.close()
            say(" (stopped)\n")
            return
        say()
        if self._session.last is not None:
            say_support(self._session.last)
        say()

    def _why(self) -> None:
        trace = self._session.trace
        if trace is None:
            raise _nothing_asked()
        say_trace(trace)
        say()

    def _sources(self) -> None:
        if self._session.last is None:
            raise _nothing_asked()
        say_hits(self._session.last.hits)
        say()


def _help() -> None:
    say(f"{HELP}\n")


def _nothing_asked() -> UsageError:
    return UsageError("Nothing was asked yet.", "Ask a question first.")


def _questions() -> Iterator[str]:
    """Yield what is typed, or the lines of a pipe, printed as if they had been typed."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if line.strip():
                say(f"{PROMPT}{line.strip()}")
                yield line
        return
    read = _Reader()
    while True:
        try:
            yield read()
        except KeyboardInterrupt:  # stops an answer, not the conversation
            say()
        except EOFError:
            return


class _Reader:
    """Reads a line with the arrow keys: prompt-toolkit where it is installed, else readline."""

    def __init__(self) -> None:
        self._session = None
        if importlib.util.find_spec("prompt_toolkit") and sys.stdout.isatty():
            from prompt_toolkit import PromptSession

            self._session = PromptSession[str]()
        elif importlib.util.find_spec("readline"):
            importlib.import_module("readline")

    def __call__(self) -> str:
        return self._session.prompt(PROMPT) if self._session else input(PROMPT)
