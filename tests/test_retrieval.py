"""Search: dense, lexical and hybrid against oracles; filters, exclusion, odd queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_chat.config import IndexSettings, SearchMode
from rag_chat.errors import EmbedderMismatch, UsageError
from rag_chat.index.embedding import SentenceTransformerEmbedder
from rag_chat.retrieval.fusion import DENSE_SHARE, RRF_K, reciprocal_rank_fusion, score_fusion
from rag_chat.retrieval.index import Index
from rag_chat.retrieval.lexical import LexicalIndex, telling_words
from rag_chat.types import Document, Retriever

WORDS = "boil egg tea rice yolk degrees snow ski winter northern the of is zebra".split()
QUERIES = ["boil an egg", "northern lights in winter", "ball dimples", "zzz qqq"]
MODES: list[SearchMode] = ["hybrid", "dense", "lexical"]
ODD = [
    '"',
    "*",
    "NEAR(",
    "AND",
    "a OR",
    "text:egg",
    "-egg",
    "(",
    "^",
    "🙂",
    "'; DROP TABLE",
    "what is the",
    "_",
    "egg\0s",
]


def test_dense_is_the_cosine_of_what_is_embedded(
    tiny_index: Index, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    passages = list(tiny_index.passages())
    vectors = tiny_embedder.embed([passage.search_text for passage in passages])
    for query in QUERIES:
        cosines = vectors @ tiny_embedder.embed([query], query=True)[0]
        hits = tiny_index.search(query, k=5, mode="dense")
        assert [hit.passage.id for hit in hits] == [passages[i].id for i in np.argsort(-cosines)[:5]]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1][:5], atol=1e-5)
        assert all(-1 <= hit.score <= 1 and hit.score == hit.dense for hit in hits)


def test_hybrid_is_the_fusion_of_both(tiny_index: Index) -> None:
    for query in QUERIES:
        dense = tiny_index.search(query, k=100, mode="dense")
        lexical = tiny_index.search(query, k=100, mode="lexical")
        scores = dict.fromkeys((passage.id for passage in tiny_index.passages()), 0.0)
        for found, share in ((dense, DENSE_SHARE), (lexical, 1 - DENSE_SHARE)):
            for hit in found:
                scores[hit.passage.id] += share * hit.score / found[0].score
        hits = tiny_index.search(query, k=6, mode="hybrid")
        assert [hit.score for hit in hits] == pytest.approx(sorted(scores.values(), reverse=True)[:6])
        cosines = {hit.passage.id: hit.dense for hit in dense}
        for rank, hit in enumerate(hits, 1):
            assert hit.rank == rank
            assert hit.score == pytest.approx(scores[hit.passage.id])
            assert hit.dense == pytest.approx(cosines[hit.passage.id], abs=1e-6)


def test_a_passage_that_only_words_found_has_its_cosine(
    tiny_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_chat.retrieval.index.DEPTH", 1)
    cosines = {hit.passage.id: hit.score for hit in tiny_index.search("golf", k=13, mode="dense")}
    hits = tiny_index.search("golf", k=1)
    for hit in [*hits, *tiny_index.search("golf", k=2)]:
        assert hit.dense == pytest.approx(cosines[hit.passage.id], abs=1e-6)


def test_lexical_finds_inflected_and_accented_words(tiny_index: Index) -> None:
    assert tiny_index.search("hiking volcanoes", mode="lexical")[0].passage.source == "travel/iceland.md"
    assert tiny_index.search("PÌZZÄ", mode="lexical")[0].passage.source == "food/pizza.md"
    hits = tiny_index.search("green tea degrees", k=10, mode="lexical")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.score > 0 and hit.lexical == hit.score and hit.dense is None for hit in hits)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("query", ODD)
def test_odd_queries_find_something_or_nothing(tiny_index: Index, mode: SearchMode, query: str) -> None:
    hits = tiny_index.search(query, k=3, mode=mode)
    assert len(hits) == 3 or mode == "lexical"


@settings(deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, unique=True), k=st.integers(1, 20))
def test_lexical_scores_are_those_of_fts5(tiny_index: Index, words: list[str], k: int) -> None:
    found = LexicalIndex(tiny_index.store).search(" ".join(words), k)
    query = "SELECT rowid, -bm25(lexical) FROM lexical WHERE lexical MATCH ?"
    with tiny_index.store.database.snapshot() as connection:
        expected = dict(connection.execute(query, (" OR ".join(telling_words(" ".join(words))),)).fetchall())
    best = sorted(expected.values(), reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(best, rel=1e-5)
    assert [expected[i] for i, _ in found] == pytest.approx(best, rel=1e-5)


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_searched_for(tiny_index: Index, query: str) -> None:
    LexicalIndex(tiny_index.store).search(query, 3)


def test_lexical_search_follows_what_is_added_and_removed(
    tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    one, other = (Document(name, f"Rinse {name}. " * 90) for name in ("rice", "lentils"))
    with Index.build([one], tmp_path / "index", embedder=tiny_embedder) as index:
        assert index.search("lentil", mode="lexical") == []
        index.add([other])
        assert {hit.passage.source for hit in index.search("lentil", mode="lexical")} == {"lentils"}
        assert len(index.search("rinsing", k=100, mode="lexical")) == index.info()["passages"]
        index.remove(["rice"])
        assert {hit.passage.source for hit in index.search("rinse", mode="lexical")} == {"lentils"}


def test_stop_words_are_dropped_unless_there_is_nothing_else() -> None:
    assert telling_words("How do I boil an EGG?") == ["boil", "egg"]
    assert telling_words("Who is it?") == ["who", "is", "it"]
    assert telling_words("?! _ 🙂") == []


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
@pytest.mark.parametrize(
    ("filter", "count"),
    [({"topic": "food"}, 4), ({"kind": "dialogue"}, 3), ({"source": "d-tea"}, 1), ({"words": 8}, 1),
     ({"topic": "food", "kind": "topic", "words": "10"}, 1), ({"topic": "none"}, 0)],
)  # fmt: skip
def test_a_filter_still_returns_k(
    tiny_index: Index, mode: SearchMode, filter: dict[str, str | int], count: int
) -> None:
    for k in (1, 3, 50):
        hits = tiny_index.search("golf ball", k=k, mode=mode, filter=filter)
        assert len(hits) == min(k, count)
        for hit in hits:
            facts = {**hit.passage.metadata, "kind": hit.passage.kind, "source": hit.passage.source}
            assert all(str(facts[key]) == str(value) for key, value in filter.items())


def test_lexical_fills_k_under_a_filter(tiny_index: Index) -> None:
    hits = tiny_index.search("the a egg dimples cox", k=2, mode="lexical", filter={"topic": "sports"})
    assert {hit.passage.source for hit in hits} == {"sports/golf.md", "sports/rowing.md"}


@pytest.mark.parametrize("mode", MODES)
def test_excluded_sources_make_room_for_others(tiny_index: Index, mode: SearchMode) -> None:
    everything = tiny_index.search("boil egg tea degrees", k=20, mode=mode)
    out = {everything[0].passage.source, "not there"}
    hits = tiny_index.search("boil egg tea degrees", k=2, mode=mode, exclude_sources=out)
    assert len(hits) == 2
    assert not out & {hit.passage.source for hit in hits}
    if mode != "hybrid":  # in which leaving one out moves the ranks of the others
        rest = [hit.passage for hit in everything if hit.passage.source not in out]
        assert [hit.passage for hit in hits] == rest[:2]


@pytest.mark.parametrize("mode", MODES)
def test_many_queries_at_once_are_the_same(tiny_index: Index, mode: SearchMode) -> None:
    out = [("food/eggs.md",), (), (), ()]
    together = tiny_index.search_many(QUERIES, 4, mode=mode, exclude_sources=out)
    for query, sources, hits in zip(QUERIES, out, together, strict=True):
        alone = tiny_index.search(query, 4, mode=mode, exclude_sources=sources)
        assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-6)
    assert tiny_index.search_many([], mode=mode) == []


def test_wrong_use_is_refused(tiny_index: Index) -> None:
    with pytest.raises(UsageError, match="k must"):
        tiny_index.search("egg", k=0)
    with pytest.raises(UsageError, match="empty"):
        tiny_index.search("  ")
    with pytest.raises(UsageError, match="Known keys: kind, source, topic, words"):
        tiny_index.search("egg", filter={"topics": "food"})
    with pytest.raises(UsageError, match="mode"):
        tiny_index.search("egg", mode="both")  # type: ignore[arg-type]


def test_an_index_is_a_retriever(tiny_index: Index) -> None:
    retriever: Retriever = tiny_index
    assert len(retriever.search("egg", 2)) == 2


@given(st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4))
def test_fusion(rankings: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(rankings)
    assert {one for one, _ in fused} == {one for ranking in rankings for one in ranking}
    for one, score in fused:
        ranks = [ranking.index(one) + 1 for ranking in rankings if one in ranking]
        assert score == pytest.approx(sum(1 / (RRF_K + rank) for rank in ranks))
    assert fused == sorted(fused, key=lambda item: (-item[1], item[0]))


@given(
    st.dictionaries(st.integers(0, 9), st.floats(-1, 1)), st.dictionaries(st.integers(0, 9), st.floats(0, 40))
)
def test_fused_scores(dense: dict[int, float], lexical: dict[int, float]) -> None:
    fused = score_fusion(dense, lexical)
    assert {one for one, _ in fused} == dense.keys() | lexical.keys()
    assert fused == sorted(fused, key=lambda item: (-item[1], item[0]))
    assert all(score <= 1 + 1e-9 for _, score in fused)
    if fused and (first := fused[0][0]) in dense and max(dense.values()) > 0 and not any(lexical.values()):
        assert dense[first] == max(dense.values())


def test_the_lead_of_the_first_counts() -> None:
    """By ranks 1 and 2 would tie: each is first once and second once."""
    assert [one for one, _ in score_fusion({1: 0.9, 2: 0.8}, {2: 30.0, 1: 10.0})] == [2, 1]


def test_fusion_weighs_rankings() -> None:
    assert reciprocal_rank_fusion([[1, 2], [2, 1]], [1.0, 2.0])[0] == (2, 1 / (RRF_K + 2) + 2 / (RRF_K + 1))


def test_int8_is_recorded_and_used_again(tmp_path: Path) -> None:
    texts = [Document("tea", "Green tea is steeped at 75 degrees."), Document("golf", "A ball has dimples.")]
    settings = IndexSettings(embed_precision="int8", recall=0.9)
    with Index.build(texts, tmp_path / "index", settings=settings) as index:
        assert (index.identity.precision, index.settings.recall) == ("int8", 0.9)
    with Index.open(tmp_path / "index") as index:
        assert index.search("How hot is tea?", 1)[0].passage.source == "tea"
        assert index.embedder.identity.precision == "int8"
    with (
        Index.open(tmp_path / "index", embedder="all-MiniLM-L6-v2") as index,
        pytest.raises(EmbedderMismatch, match=r"in int8.*in fp32"),
    ):
        index.search("tea")
