"""Every error the library raises on purpose: what happened, and what to do about it."""

from __future__ import annotations

import importlib
from types import ModuleType


class RagChatError(Exception):
    """Base of all errors: `problem` says what happened, `fix` what the user can do now."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.fix}"


class UsageError(RagChatError, ValueError):
    """An argument, option or setting that cannot be used as given (exit status 2)."""


class MissingExtra(RagChatError, ImportError):
    """An optional package is not installed."""


class CorpusError(RagChatError):
    """A file of documents or dialogues could not be read."""


class IndexFault(RagChatError):
    """Base of everything that can go wrong with an index folder."""


class IndexNotFound(IndexFault):
    """There is no index at the path given."""


class IndexCorrupt(IndexFault):
    """A file of the index is damaged; the message names the file."""


class IndexLocked(IndexFault):
    """Another process is writing this index; the message names its pid and since when."""


class EmbedderMismatch(IndexFault):
    """The index was built with another embedder; the message names both."""


class IndexWriteFailed(IndexFault):
    """The system refused a write (no space, no permission); the last committed state is intact."""


class ModelError(RagChatError):
    """A generator or embedder could not be loaded or run."""


class TrainingError(RagChatError):
    """Training cannot start or go on."""


class SessionError(RagChatError):
    """A stored conversation could not be read or written."""


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or raise MissingExtra naming the extra that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(
            f"This needs the package {package!r}, which is not installed.",
            f"Install it with: pip install 'rag-chat[{extra}]'",
        ) from error
