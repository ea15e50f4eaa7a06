"""Turn your own conversations and documents into an assistant you own.

from rag_chat import Assistant, Index
index = Index.build(["corpora/topics"], "indexes/demo")
with Assistant(index).session("trip") as chat:
    answer = chat.ask("Where can I see the northern lights?")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_chat.assistant import Assistant, Session
    from rag_chat.config import GenerationSettings, IndexSettings, TrainingSettings
    from rag_chat.errors import RagChatError
    from rag_chat.retrieval.index import Index
    from rag_chat.types import Answer, Citation, Dialogue, Document, Hit, Message, Passage, Turn

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Assistant",
    "Citation",
    "Dialogue",
    "Document",
    "GenerationSettings",
    "Hit",
    "Index",
    "IndexSettings",
    "Message",
    "Passage",
    "RagChatError",
    "Session",
    "TrainingSettings",
    "Turn",
    "__version__",
]

_HOME = {
    "Answer": "rag_chat.types",
    "Assistant": "rag_chat.assistant",
    "Citation": "rag_chat.types",
    "Dialogue": "rag_chat.types",
    "Document": "rag_chat.types",
    "GenerationSettings": "rag_chat.config",
    "Hit": "rag_chat.types",
    "Index": "rag_chat.retrieval.index",
    "IndexSettings": "rag_chat.config",
    "Message": "rag_chat.types",
    "Passage": "rag_chat.types",
    "RagChatError": "rag_chat.errors",
    "Session": "rag_chat.assistant",
    "TrainingSettings": "rag_chat.config",
    "Turn": "rag_chat.types",
}

if not TYPE_CHECKING:  # hidden from type checkers: they would take every misspelt name for Any

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that `import rag_chat` stays light."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
