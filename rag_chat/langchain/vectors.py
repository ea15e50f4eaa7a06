"""An embedder as LangChain's Embeddings, and an index as a VectorStore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from rag_chat.config import PACKAGED_EMBEDDER
from rag_chat.errors import UsageError
from rag_chat.index.embedding import AnyEmbedder, load_embedder
from rag_chat.langchain.documents import digest, scalars
from rag_chat.retrieval.index import Index
from rag_chat.types import Document, Passage, Scalar

Filter = Mapping[str, Scalar]


class RagChatEmbeddings(Embeddings):
    """An embedder (a name, a folder, or the object; by default the packaged one) for LangChain.

    Vectors are unit rows: lists of `embedder.identity.dimension` floats. Raises ModelError.
    """

    def __init__(self, embedder: AnyEmbedder = PACKAGED_EMBEDDER) -> None:
        self.embedder = load_embedder(embedder)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self.embedder.embed(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        row: list[float] = self.embedder.embed([text], query=True)[0].tolist()
        return row


class IndexVectorStore(VectorStore):
    """An index as a vector store; every text is a document of the index, known by its id.

    The index cuts a text that is longer than its passages: a search then finds the passage, under the id
    of its document. Scores are cosines in [-1, 1], higher is better. Raises what `Index` raises.
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    @property
    def embeddings(self) -> Embeddings:
        return RagChatEmbeddings(self.index.embedder)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | Path = "",
        **kwargs: Any,
    ) -> Self:
        """Make the index `path` (which must be given), or bring it up to date: it holds just these texts."""
        _refuse(kwargs)
        if not path:
            raise UsageError("An index is a folder, and none is named.", "Pass path='indexes/mine'.")
        documents = _documents(texts, metadatas, ids)
        return cls(Index.build(documents, path, embedder=embedding, on_error="fail"))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts and return their ids; one that has an id already there takes its place.

        A text without an id is known by its content, so that adding it again changes nothing.
        """
        _refuse(kwargs)
        documents = _documents(texts, metadatas, ids)
        self.index.add(list({one.source: one for one in documents}.values()), on_error="fail")
        return [one.source for one in documents]

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by id, with all that is named "id#..."; unknown ids are passed over.

        Raises UsageError for None: nobody deletes a whole index by leaving something out.
        """
        _refuse(kwargs)
        if ids is None:
            raise UsageError("No ids were given to delete.", "Pass ids=[...].")
        self.index.remove(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """Return whole documents, in the order of `ids`; unknown ids are left out."""
        with self.index.snapshot():
            texts = [(one, self.index.document_text(one)) for one in ids]
            return [
                LangChainDocument(id=one, page_content=text, metadata=self._metadata(one))
                for one, text in texts
                if text is not None
            ]

    def _metadata(self, source: str) -> dict[str, Scalar]:
        first = self.index.store.passage_ids([source])[:1].tolist()
        return {k: v for one in self.index.store.passages(first).values() for k, v in one.metadata.items()}

    def similarity_search(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[LangChainDocument]:
        return [one for one, _ in self.similarity_search_with_score(query, k, filter=filter, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        _refuse(kwargs)
        hits = self.index.search(query, k, mode="dense", filter=filter)
        return [(_text_document(hit.passage), hit.score) for hit in hits]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[LangChainDocument]:
        _refuse(kwargs)
        return [_text_document(passage) for _, passage in self._nearest(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        asked = self.embeddings.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            asked, k, fetch_k, lambda_mult, filter=filter, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        _refuse(kwargs)
        with self.index.snapshot():
            found = dict(self._nearest(embedding, fetch_k, filter))
            ids, vectors = self.index.store.vectors(np.array(list(found), dtype=np.int64))
        asked = np.asarray(embedding, dtype=np.float32)
        best = maximal_marginal_relevance(asked, list(vectors), lambda_mult=lambda_mult, k=k) if found else []
        return [_text_document(found[int(ids[i])]) for i in best]

    def _nearest(self, vector: list[float], k: int, filter: Filter | None) -> list[tuple[int, Passage]]:
        """Return the k passages nearest to a vector of any length, best first, with their rows."""
        row = np.asarray([vector], dtype=np.float32)
        row /= max(float(np.linalg.norm(row)), 1e-12)
        with self.index.snapshot():
            allowed = self.index.store.matching(filter) if filter else None
            ids, _ = self.index.dense_search(row, k, allowed)
            passages = self.index.store.passages(ids[0].tolist())
        return [(i, passages[i]) for i in ids[0].tolist()]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: max(0.0, cosine)


def _documents(
    texts: Iterable[str], metadatas: list[dict[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[Document]:
    texts = list(texts)
    given = zip(texts, metadatas or [{}] * len(texts), ids or [None] * len(texts), strict=True)
    made = [LangChainDocument(text, metadata=metadata, id=one) for text, metadata, one in given]
    return [Document(one.id or digest(one), one.page_content, "", scalars(one.metadata)) for one in made]


def _text_document(passage: Passage) -> LangChainDocument:
    return LangChainDocument(id=passage.source, page_content=passage.text, metadata=dict(passage.metadata))


def _refuse(unknown: Mapping[str, Any]) -> None:
    """Raise UsageError for arguments that LangChain's signatures let through."""
    if unknown:
        raise UsageError(f"Unknown arguments: {', '.join(sorted(unknown))}.", "Leave them out.")
