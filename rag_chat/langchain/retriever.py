"""An index as a LangChain retriever."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from rag_chat.config import SearchMode
from rag_chat.retrieval.index import Index
from rag_chat.types import Hit, Scalar

Filter = Mapping[str, Scalar]


class IndexRetriever(BaseRetriever):
    """Finds passages of an index, as `Index.search` does; `k`, `mode` and `filter` can be set for one call.

    Each is a document with the passage's id, its text, its metadata, and `source`, `title`, `kind`,
    `start`, `end` and `score`.
    """

    index: Index
    k: int = 5
    mode: SearchMode = "hybrid"
    filter: Filter | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain's signature
        k: int | None = None,
        mode: SearchMode | None = None,
        filter: Filter | None = None,
    ) -> list[Document]:
        hits = self.index.search(
            query, self.k if k is None else k, mode=mode or self.mode, filter=filter or self.filter
        )
        return [_passage_document(hit) for hit in hits]


def _passage_document(hit: Hit) -> Document:
    passage = hit.passage
    named = {name: getattr(passage, name) for name in ("source", "title", "kind", "start", "end")}
    metadata = {**passage.metadata, **named, "score": hit.score}
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)
