"""The command line: each command parses, calls one function, and prints."""

from __future__ import annotations

from rag_chat.commands.app import cli, main
from rag_chat.commands.asking import ask, search
from rag_chat.commands.bundle import bundle
from rag_chat.commands.chatting import chat
from rag_chat.commands.doctor import doctor
from rag_chat.commands.evaluate import evaluate
from rag_chat.commands.indexing import index
from rag_chat.commands.models import models
from rag_chat.commands.recipe import run
from rag_chat.commands.replay import replay
from rag_chat.commands.serve import serve
from rag_chat.commands.sessions import sessions
from rag_chat.commands.train import train

for _command in (
    ask,
    bundle,
    chat,
    doctor,
    evaluate,
    index,
    models,
    replay,
    run,
    search,
    serve,
    sessions,
    train,
):
    cli.add_command(_command)

__all__ = ["cli", "main"]
