"""What a server allows, with units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rag_chat.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST_KEY = 16  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """How a server may be used.

    `api_keys`: a request needs one of them (empty: no key is asked for). `hosts`: names the server goes by
    besides this machine's own. `origins`: sites whose pages may use it. `body_bytes`, `message_chars` and
    `messages` bound a request; `waiting` bounds the requests under way, and the next gets a 429;
    `batch`: how many are answered together; `body_seconds` and `answer_seconds` bound how long a body may
    take to arrive, and an answer to come. `feedback`: the folder for rated answers (None: beside the
    conversations). `log_prompts`: questions are logged, too.
    """

    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_bytes: int = 1_000_000
    message_chars: int = 20_000
    messages: int = 200
    waiting: int = 64
    batch: int = 16
    body_seconds: float = 20.0
    answer_seconds: float = 60.0
    feedback: Path | None = None
    log_prompts: bool = False

    def __post_init__(self) -> None:
        if any(len(key) < SHORTEST_KEY for key in self.api_keys):
            raise UsageError(
                f"An API key is shorter than {SHORTEST_KEY} characters.",
                "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        for origin in self.origins:
            if origin == "*" or "://" not in origin or origin.endswith("/"):
                raise UsageError(
                    f"{origin!r} is not the origin of a site.", "Write it as in: https://www.example.com"
                )
