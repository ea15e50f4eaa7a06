"""`--offline`, enforced: no connection leaves this machine."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import Any

from rag_chat.errors import RagChatError, UsageError

_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
}
# Native code (hf-xet) opens sockets that Python does not see; these keep it from trying.

_ADDRESS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_HOST = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}
"""Where among the arguments of an audit event the address or the host is (Python's audit event table)."""

_ON_THIS_MACHINE = ("ollama",)
"""Providers of chat models that run beside us; the hook still refuses one that is elsewhere."""

_enforced: list[bool] = []


def enforce() -> None:
    """Refuse every connection to another machine, until the process ends (a hook cannot be removed)."""
    os.environ.update(_SETTINGS)
    if not _enforced:
        _enforced.append(True)
        sys.addaudithook(_refuse)


def enforced() -> bool:
    return bool(_enforced)


def check_model(model: str) -> None:
    """Raise UsageError for a chat model of another machine."""
    provider, colon, _ = model.partition(":")
    if enforced() and colon and not Path(model).exists() and provider not in _ON_THIS_MACHINE:
        raise UsageError(
            f"The chat model {model!r} is on another machine, and --offline forbids to connect.",
            "Use -m reader, or leave out --offline (RAG_CHAT_OFFLINE).",
        )


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _ADDRESS:
        address = arguments[_ADDRESS[event]]
        host = address[0] if isinstance(address, tuple) else None  # a path: a socket on this machine
    elif event in _HOST:
        host = arguments[_HOST[event]]
    else:
        return
    if host and not _is_here(host):
        raise RagChatError(
            f"--offline: a connection to {host!r} was refused.",
            "Leave out --offline (RAG_CHAT_OFFLINE) to allow the network.",
        )


def _is_here(host: str | bytes) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
