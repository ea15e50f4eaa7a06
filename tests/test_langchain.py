"""LangChain components: what they return is what the index and the assistant return."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from conftest import tiny_documents
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_text_splitters import RecursiveCharacterTextSplitter

from rag_chat import Assistant, Index
from rag_chat.errors import UsageError
from rag_chat.langchain import (
    IndexRetriever,
    IndexVectorStore,
    RagChatEmbeddings,
    RagChatModel,
    documents_from,
)

ROOT = Path(__file__).parent.parent
EGGS = "How long do I boil an egg?"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("langchain") / "index"
    with Index.build(tiny_documents(), folder, embedder=models.WordEmbedder()) as built:
        yield built


# --- Retriever -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_the_retriever_finds_what_the_index_finds(index: Index, mode: str) -> None:
    found = IndexRetriever(index=index, k=3, mode=mode, filter={"topic": "food"}).invoke(EGGS)
    hits = index.search(EGGS, 3, mode=mode, filter={"topic": "food"})
    assert [(one.id, one.page_content, one.metadata["score"]) for one in found] == [
        (hit.passage.id, hit.passage.text, hit.score) for hit in hits
    ]
    for one in found:
        text = index.document_text(one.metadata["source"])
        assert text is not None
        assert text[one.metadata["start"] : one.metadata["end"]] == one.page_content
        assert one.metadata["topic"] == "food"


def test_one_call_may_ask_otherwise(index: Index) -> None:
    retriever = IndexRetriever(index=index, filter={"topic": "food"})
    found = retriever.invoke(EGGS, k=2, mode="dense", filter={"topic": "sports"})
    assert [one.metadata["topic"] for one in found] == ["sports", "sports"]
    with pytest.raises(UsageError, match="at least 1"):
        retriever.invoke(EGGS, k=0)


# --- Embeddings ------------------------------------------------------------------------------------


def test_embeddings_are_the_embedders_vectors() -> None:
    embedder = models.WordEmbedder()
    rows = RagChatEmbeddings(embedder).embed_documents(["an egg", "tea"])
    assert np.allclose(rows, embedder.embed(["an egg", "tea"]))
    assert RagChatEmbeddings(embedder).embed_query("tea") == rows[1]
    assert RagChatEmbeddings(embedder).embed_documents([]) == []


# --- Vector store ----------------------------------------------------------------------------------


def test_the_store_is_an_index_that_stays(tmp_path: Path) -> None:
    fake = DeterministicFakeEmbedding(size=8)
    store = IndexVectorStore.from_texts(
        ["one", "two"], fake, [{"n": 1}, {"n": 2}], ids=["a", "b"], path=tmp_path / "index"
    )
    store.index.close()
    with Index.open(tmp_path / "index", embedder=fake) as index:
        again = IndexVectorStore(index)
        assert again.get_by_ids(["b", "missing", "a"]) == [
            Document(id="b", page_content="two", metadata={"n": 2}),
            Document(id="a", page_content="one", metadata={"n": 1}),
        ]
        assert again.similarity_search("one", filter={"n": 2})[0].id == "b"
    with pytest.raises(UsageError, match="folder"):
        IndexVectorStore.from_texts(["one"], fake)


def test_texts_without_an_id_are_added_once(tmp_path: Path) -> None:
    with Index.build([], tmp_path / "index", embedder=models.WordEmbedder()) as index:
        store = IndexVectorStore(index)
        ids = store.add_texts(["tea", "tea", "an egg"])
        assert ids[0] == ids[1] != ids[2]
        assert store.add_texts(["tea", "tea", "an egg"]) == ids
        assert index.info()["documents"] == 2
        assert store.add_texts(["old", "new"], ids=["x", "x"]) == ["x", "x"]
        assert store.get_by_ids(["x"])[0].page_content == "new"


def test_a_long_text_is_found_by_passage_under_its_own_id(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {n} says little." for n in range(60)) + " The needle is here."
    with Index.build([], tmp_path / "index", embedder=models.WordEmbedder()) as index:
        store = IndexVectorStore(index)
        store.add_texts([text], ids=["long"])
        (best,) = store.similarity_search("The needle is here", k=1)
        assert best.id == "long"
        assert "needle" in best.page_content
        assert len(best.page_content) < len(text)
        assert store.get_by_ids(["long"])[0].page_content == text
        store.delete(["long"])
        assert store.similarity_search("needle") == []


def test_scores_are_cosines_and_relevance_is_in_0_1(index: Index) -> None:
    store = IndexVectorStore(index)
    embedder = models.WordEmbedder()
    asked = embedder.embed([EGGS], query=True)[0]
    for one, score in store.similarity_search_with_score(EGGS, k=10):
        passage = next(p for p in index.passages() if p.source == one.id)
        assert score == pytest.approx(float(embedder.embed([passage.search_text])[0] @ asked), abs=1e-5)
    relevant = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.2, "k": 10}
    ).invoke(EGGS)
    assert 0 < len(relevant) < 10


def test_search_by_vector_and_mmr_agree_with_the_index(index: Index) -> None:
    store = IndexVectorStore(index)
    vector = store.embeddings.embed_query(EGGS) if store.embeddings else []
    best = [hit.passage.source for hit in index.search(EGGS, 4, mode="dense")]
    assert [one.id for one in store.similarity_search_by_vector([3 * x for x in vector])] == best
    assert [one.id for one in store.max_marginal_relevance_search(EGGS, k=4, lambda_mult=1.0)] == best
    diverse = [one.id for one in store.max_marginal_relevance_search(EGGS, k=4, lambda_mult=0.1)]
    assert diverse[0] == best[0]
    assert set(diverse) != set(best)


def test_mmr_is_of_one_state_while_another_process_writes(tmp_path: Path) -> None:
    folder, embedder = tmp_path / "index", models.WordEmbedder()
    Index.build(tiny_documents(), folder, embedder=embedder).close()
    with Index.open(folder, embedder=embedder) as index, Index.open(folder, embedder=embedder) as other:
        other.store.database.connection.execute("PRAGMA busy_timeout = 0")  # the log cannot be cut meanwhile

        class Interrupted(IndexVectorStore):
            def _nearest(self, *given: Any) -> Any:
                found = super()._nearest(*given)
                other.remove(other.store.sources())
                return found

        assert len(Interrupted(index).max_marginal_relevance_search(EGGS, k=3)) == 3


def test_mmr_of_an_empty_index(tmp_path: Path) -> None:
    with Index.build([], tmp_path / "index", embedder=models.WordEmbedder()) as index:
        assert IndexVectorStore(index).max_marginal_relevance_search("tea") == []


def test_the_store_refuses_what_it_does_not_know(index: Index) -> None:
    with pytest.raises(UsageError, match="filters"):
        IndexVectorStore(index).similarity_search(EGGS, filters={"topic": "food"})
    with pytest.raises(UsageError, match="ids"):
        IndexVectorStore(index).delete()


# --- Chat model ------------------------------------------------------------------------------------


def test_the_reply_is_the_assistants_answer(index: Index) -> None:
    assistant = Assistant(index, "extractive")
    reply = RagChatModel(assistant=assistant).invoke(EGGS)
    answer = assistant.ask(EGGS)
    assert reply.text == answer.text
    facts = reply.response_metadata
    assert facts["model_name"] == "extractive"
    assert (facts["query"], facts["abstained"]) == (answer.query, False)
    assert [one["quote"] for one in facts["citations"]] == [one.quote for one in answer.citations]


def test_history_is_what_people_said(index: Index) -> None:
    generator = models.Scripted({"And then?": "unanswerable"})
    model = RagChatModel(assistant=Assistant(index, generator))
    reply = model.invoke(
        [
            SystemMessage("Be brief."),
            HumanMessage("When do cherry trees bloom?"),
            AIMessage("Unknown.", response_metadata={"abstained": True}),
            ToolMessage("retrieved text", tool_call_id="1"),
            HumanMessage("And then?"),
        ]
    )
    assert [(m.role, m.content, m.abstained) for m in generator.turns[0].history] == [
        ("system", "Be brief.", False),
        ("user", "When do cherry trees bloom?", False),
        ("assistant", "Unknown.", True),
    ]
    assert reply.response_metadata["abstained"]
    assert reply.response_metadata["reason"]
    with pytest.raises(UsageError, match="last message"):
        model.invoke([AIMessage("Hello")])


def test_the_stream_joined_is_the_reply(index: Index) -> None:
    heard: list[str] = []

    class Listener(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **_: object) -> None:
            heard.append(token)

    said = "Boil an egg for six minutes."
    model = RagChatModel(assistant=Assistant(index, models.Scripted({EGGS: said})))
    chunks = list(model.stream(EGGS, config={"callbacks": [Listener()]}))
    assert len(chunks) > 5
    assert "".join(str(chunk.text) for chunk in chunks) == said == "".join(heard)
    assert [bool(chunk.response_metadata) for chunk in chunks].count(True) == 1
    assert chunks[-1].response_metadata["citations"][0]["source"] == "food/eggs.md"
    for stop, left in (["for six"], "Boil an egg "), (["nowhere"], said):
        assert "".join(str(chunk.text) for chunk in model.stream(EGGS, stop=stop)) == left
        assert model.invoke(EGGS, stop=stop).text == left


# --- Documents -------------------------------------------------------------------------------------


class Pages(BaseLoader):
    """A loader of two pages of a file, and one of another."""

    def lazy_load(self) -> Iterator[Document]:
        yield Document(
            "Boil an egg.", metadata={"source": "a.pdf", "page": 1, "title": "Eggs", "author": None}
        )
        yield Document("Steep the tea.", metadata={"source": "a.pdf", "page": 2, "box": (1, 2)})
        yield Document("Rinse the rice.", metadata={"source": "b.pdf"})


def test_loaded_documents_have_stable_identities(tmp_path: Path) -> None:
    documents = documents_from(Pages())
    assert [one.source for one in documents] == ["a.pdf#1", "a.pdf#2", "b.pdf"]
    assert documents[0].title == "Eggs"
    assert [dict(one.metadata) for one in documents] == [{"page": 1}, {"page": 2, "box": "(1, 2)"}, {}]
    with Index.build(documents, tmp_path / "index", embedder=models.WordEmbedder()) as index:
        assert index.add(documents_from(Pages())).unchanged == 3
        assert index.remove(["a.pdf"]).removed == 2


def test_split_documents_feed_an_index(tmp_path: Path) -> None:
    splitter = RecursiveCharacterTextSplitter(chunk_size=60, chunk_overlap=0, add_start_index=True)
    pieces = splitter.split_documents([Document(" ".join(one.text for one in tiny_documents()))])
    documents = documents_from(pieces)
    assert len({one.source for one in documents}) == len(pieces) > 5
    with Index.build(documents, tmp_path / "index", embedder=models.WordEmbedder()) as index:
        assert "egg" in index.search(EGGS, 1)[0].passage.text


# --- The page about it -----------------------------------------------------------------------------


def test_the_snippets_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "langchain.md").read_text(encoding="utf-8")
    theirs, ours = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Index.build([ROOT / "corpora/topics/travel/northern-lights.md"], "indexes/topics").close()
    for snippet in (theirs, ours):
        names: dict[str, Index] = {}
        exec(snippet, names)
        names["index"].close()
    printed = capsys.readouterr().out
    assert "['eggs.md']" in printed
    assert "northern-lights.md" in printed
    assert "384 numbers" in printed
