"""LangChain's own standard tests, for the parts they cover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import pytest
from conftest import tiny_documents
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from rag_chat import Assistant, Index
from rag_chat.langchain import IndexRetriever, IndexVectorStore, RagChatEmbeddings, RagChatModel


@pytest.fixture(scope="module")
def words_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("langchain") / "index"
    with Index.build(tiny_documents(), folder, embedder=models.WordEmbedder()) as index:
        yield index


class TestRetriever(RetrieversIntegrationTests):
    retriever_constructor = IndexRetriever
    retriever_query_example = "How long do I boil an egg?"
    retriever_constructor_params: dict[str, Any] = {}  # noqa: RUF012  # a property upstream

    @pytest.fixture(autouse=True)
    def _over_an_index(self, words_index: Index) -> None:
        self.retriever_constructor_params = {"index": words_index}


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with Index.build([], tmp_path / "index", embedder=self.get_embeddings()) as index:
            yield IndexVectorStore(index)


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class: type[Embeddings] = RagChatEmbeddings
    embedding_model_params: dict[str, Any] = {"embedder": models.WordEmbedder()}  # noqa: RUF012


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    embeddings_class: type[Embeddings] = RagChatEmbeddings
    embedding_model_params: dict[str, Any] = {"embedder": models.WordEmbedder()}  # noqa: RUF012


class _ChatModel:
    """What both suites need to know: it calls no tools and reads text alone."""

    chat_model_class: type[BaseChatModel] = RagChatModel
    chat_model_params: dict[str, Any] = {}  # noqa: RUF012
    has_tool_calling = False
    has_structured_output = False
    returns_usage_metadata = False

    @pytest.fixture(autouse=True)
    def _over_an_index(self, words_index: Index) -> None:
        self.chat_model_params = {"assistant": Assistant(words_index, "extractive")}


class TestChatModel(_ChatModel, ChatModelIntegrationTests):
    pass


class TestChatModelUnit(_ChatModel, ChatModelUnitTests):
    pass
