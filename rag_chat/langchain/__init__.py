"""The same parts as LangChain components: retriever, vector store, embeddings, chat model, and documents."""

from rag_chat.langchain.chat_model import RagChatModel
from rag_chat.langchain.documents import documents_from
from rag_chat.langchain.retriever import IndexRetriever
from rag_chat.langchain.vectors import IndexVectorStore, RagChatEmbeddings

__all__ = ["IndexRetriever", "IndexVectorStore", "RagChatEmbeddings", "RagChatModel", "documents_from"]
