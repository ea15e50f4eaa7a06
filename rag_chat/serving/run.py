"""Run the server: bind safely, serve, and end gracefully."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace

import uvicorn

from rag_chat.assistant import Assistant
from rag_chat.errors import UsageError
from rag_chat.serving.app import create_app
from rag_chat.serving.settings import ServingSettings

GRACE_SECONDS = 10  # for the answers under way when the server is told to end
CONNECTIONS = 1000
_EVERYWHERE = ("0.0.0.0", "::")


def bind(host: str, port: int, settings: ServingSettings) -> tuple[socket.socket, ServingSettings]:
    """Return a listening socket, and the settings with the address among the names of the server.

    Only this machine may use a server without a key. Port 0 picks a free one. Raises UsageError, and OSError
    when the address cannot be had.
    """
    if not _is_loopback(host) and not settings.api_keys:
        raise UsageError(
            f"Listening on {host} lets other machines in, and there is no API key.",
            "Give a file of keys with --api-key-file, or leave --host at 127.0.0.1.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # from now on: who is told the address may come before the server runs
    except BaseException:
        listening.close()
        raise
    names = () if host in _EVERYWHERE else (host,)
    return listening, replace(settings, hosts=(*settings.hosts, *names))


def run(assistant: Assistant, listening: socket.socket, settings: ServingSettings) -> None:
    """Serve until SIGINT or SIGTERM; answers under way have ten seconds to end."""
    config = uvicorn.Config(
        create_app(assistant, settings),
        log_config=None,
        access_log=False,  # it would hold paths and queries; `metrics.Metered` logs routes
        server_header=False,
        proxy_headers=False,
        http="h11",
        ws="none",
        lifespan="on",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
