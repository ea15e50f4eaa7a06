"""What a user does to an index: build, add, sync, remove; what is embedded, and what is really gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import build_tiny_bert
from langchain_core.embeddings import DeterministicFakeEmbedding
from writer_process import HashingEmbedder

from rag_chat.config import IndexSettings
from rag_chat.errors import CorpusError, EmbedderMismatch, IndexNotFound, ModelError, UsageError
from rag_chat.index import dense
from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Document, Message


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for name, text in {
        "a": "Apples are red.",
        "b": "Bananas are yellow.",
        "sub/c": "Cherries are dark.",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_build_search_reopen(tiny_index: Index) -> None:
    info = tiny_index.info()
    assert (info["passages"], info["documents"], info["dialogues"]) == (13, 10, 3)
    assert (info["dimension"], info["index_type"], info["format_version"]) == (32, "flat", 2)
    assert {*info} == {
        "passages", "documents", "dialogues", "embedder", "dimension", "index_type", "format_version",
        "generation", "bytes",
    }  # fmt: skip
    assert info["bytes"] > 13 * 32 * 4
    with Index.open(tiny_index.path) as again:  # loads the embedder from where it was
        for mode in ("dense", "lexical", "hybrid"):
            assert again.search("boil egg", mode=mode) == tiny_index.search("boil egg", mode=mode)
        assert again.info() == info
        assert len(again.verify()) == 6


def test_spans_refer_to_the_document_text(tiny_index: Index) -> None:
    for passage in tiny_index.passages():
        text = tiny_index.document_text(passage.source)
        assert text is not None
        assert text[passage.start : passage.end] == passage.text
    assert tiny_index.document_text("nothing") is None


def test_sources_resolve_by_their_end(tiny_index: Index) -> None:
    assert tiny_index.has_source("d-tea")
    assert not tiny_index.has_source("tea.md")
    assert tiny_index.resolve_source("food/tea.md") == "food/tea.md"
    assert tiny_index.resolve_source("tea.md") == "food/tea.md"
    assert tiny_index.resolve_source("a.md") is None
    assert tiny_index.resolve_source("%.md") is None


def test_adding_twice_embeds_nothing(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        assert index.report is not None
        assert (index.report.added, index.report.passages, len(embedder.texts)) == (3, 3, 3)
        generation = index.info()["generation"]
        for report in (index.add([corpus]), index.sync([corpus])):
            assert (report.added, report.updated, report.unchanged, report.removed) == (0, 0, 3, 0)
        assert (len(embedder.texts), index.info()["generation"]) == (3, generation)
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        assert index.report is not None
        assert (index.report.unchanged, len(embedder.texts)) == (3, 3)


def test_nothing_new_loads_no_model(corpus: Path, tmp_path: Path, tiny_index: Index) -> None:
    path, model = tmp_path / "index", Path(shutil.copytree(tiny_index.settings.embedder, tmp_path / "model"))
    Index.build([corpus], path, embedder=model).close()
    weights = next(model.glob("*.safetensors"))
    hidden = weights.rename(tmp_path / "hidden")
    with Index.build([corpus], path, embedder=model) as index:
        reports = [index.report, index.add([corpus]), index.sync([corpus]), index.remove(["docs/b.md"])]
        assert [(one.unchanged, one.removed) for one in reports if one] == [(3, 0), (3, 0), (3, 0), (0, 1)]
    with pytest.raises(ModelError, match="model"):
        Index.build([corpus], path, embedder=model)
    hidden.rename(weights)
    build_tiny_bert(tmp_path / "other", seed=8).joinpath(weights.name).replace(weights)
    with Index.build([corpus], path, embedder=model) as index:  # another one of the same name
        assert index.report
        assert (index.report.added, index.report.passages) == (3, 3)
        index.verify()
        assert index.search("bananas")


def test_changed_renamed_removed(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        (corpus / "a.md").write_text("Apples are green.", encoding="utf-8")
        assert index.add([corpus]).updated == 1
        assert embedder.texts[3:] == ["A\nApples are green."]
        assert not index.search("red", mode="lexical")

        (corpus / "other").mkdir()
        (corpus / "b.md").rename(corpus / "other" / "b.md")
        report = index.add([corpus])
        assert (report.added, report.removed, len(embedder.texts)) == (1, 0, 4)
        report = index.sync([corpus])
        assert (report.removed, report.unchanged, report.passages) == (1, 3, 3)
        assert [hit.passage.source for hit in index.search("bananas", k=1)] == ["docs/other/b.md"]
        index.verify()


def test_sync_touches_only_its_own_sources(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    twin = tmp_path / "elsewhere" / "docs"
    twin.mkdir(parents=True)
    (twin / "d.md").write_text("Dates are brown.", encoding="utf-8")
    given = Document("given", "Given as an object.")
    with Index.build([corpus, twin, given], tmp_path / "index", embedder=embedder) as index:
        (corpus / "a.md").unlink()
        (twin / "d.md").write_text("Dates are dried.", encoding="utf-8")
        assert index.sync([corpus]).removed == 1
        assert index.has_source("docs/d.md")
        assert index.has_source("given")
        assert index.sync([replace(given, source="new")]).removed == 1
        assert index.info()["documents"] == 4


def test_sync_follows_a_source_that_moved(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        moved = corpus.rename(tmp_path / "x").rename(tmp_path / "x2")
        (tmp_path / "deeper").mkdir()
        moved = moved.rename(tmp_path / "deeper" / "docs")
        (moved / "a.md").unlink()
        report = index.sync([moved])
        assert (report.unchanged, report.removed) == (2, 1)
        assert index.sync([moved]).removed == 0


def test_a_file_that_cannot_be_read_is_not_gone(
    corpus: Path, tmp_path: Path, embedder: HashingEmbedder
) -> None:
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        (corpus / "a.md").write_bytes("Apples".encode("utf-16"))
        report = index.sync([corpus])
        assert (report.removed, [Path(one.source).name for one in report.skipped]) == (0, ["a.md"])
        assert index.has_source("docs/a.md")


def test_one_name_two_files_loses_neither(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    twin = tmp_path / "elsewhere" / "docs"
    twin.mkdir(parents=True)
    (twin / "a.md").write_text("Another text.", encoding="utf-8")
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        report = index.add([twin])
        assert (report.updated, report.skipped[0].source) == (0, "docs/a.md")
        chat = Dialogue("docs/a.md", (Message("user", "hi there, you"), Message("assistant", "hello to you")))
        assert "topic" in index.add([chat]).skipped[0].reason
        assert index.add([Document("x", "one"), Document("x", "two")]).skipped[0].source == "x"
        assert index.add([Document("y", "\ud800")]).skipped[0].source == "'y'"
        with pytest.raises(CorpusError, match="same identity"):
            index.add([Document("z", "one"), Document("z", "two")], on_error="fail")


def test_remove(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    records = [Document("f.jsonl#1", "One."), Document("f.jsonl#2", "Two.")]
    with Index.build([corpus, *records], tmp_path / "index", embedder=embedder) as index:
        report = index.remove(["docs/sub/", "docs/a.md", "nothing", "docs/a.md"])
        assert (report.removed, report.passages, [one.source for one in report.skipped]) == (
            2,
            3,
            ["nothing"],
        )
        assert index.remove(["f.jsonl"]).removed == 2
        assert [passage.source for passage in index.passages()] == ["docs/b.md"]
        assert len(index.search("apples", k=5)) == 1
        index.verify()


def test_deletion_is_real(tmp_path: Path, embedder: HashingEmbedder) -> None:
    secret = Document(
        "private", "The codeword xylophonist opens the quetzalcoatl gate.", metadata={"m": "zugzwang"}
    )
    words = [b"xylophonist", b"quetzalcoatl", b"zugzwang", b"private"]
    many = [Document(f"m{i}", f"Filler number {i} about nothing. " * 20) for i in range(150)]
    with Index.build([*many[:75], secret, *many[75:]], tmp_path / "index", embedder=embedder) as index:
        vector = embedder.embed([secret.text])[0].tobytes()
        before = contents(index.path)
        assert all(word in before for word in [*words[:3], vector])
        assert index.remove(["private"]).removed == 1
        after = contents(index.path)
        assert not [word for word in [*words, vector] if word in after]
        assert index.search("xylophonist", mode="lexical") == []
        index.add([replace(secret, source="again", text=secret.text + " Open it.")])
        index.add([replace(secret, source="again", text="Nothing.", metadata={})])
        assert not [word for word in words if word in contents(index.path)]
        index.verify()


READS: dict[str, Callable[[Index], object]] = {
    "a document that is there": lambda index: index.has_source("docs/a.md"),
    "a document that comes": lambda index: index.has_source("new"),
    "what is known of all": lambda index: len(index.store.states()),
    "a passage": lambda index: index.passage("docs/a.md#p0"),
    "the first page of passages": lambda index: next(index.passages()).id,
    "their number": lambda index: index.store.count_passages(),
    "vectors": lambda index: index.store.vectors()[1].tolist(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_a_read_is_of_one_state_while_another_process_writes(
    read: Callable[[Index], object], corpus: Path, tmp_path: Path, embedder: HashingEmbedder
) -> None:
    Index.build([corpus], tmp_path / "index", embedder=embedder).close()
    with Index.open(tmp_path / "index") as index, Index.open(tmp_path / "index", embedder=embedder) as other:
        other.store.database.connection.execute("PRAGMA busy_timeout = 0")  # the log cannot be cut meanwhile
        before, selects = read(index), 0

        def write_before_the_second(statement: str) -> None:
            nonlocal selects
            selects += statement.startswith("SELECT")
            if selects == 2:
                selects += 1
                other.remove(["docs/a.md"])
                other.add([Document("new", "Plums are blue."), Document("newer", "Figs are green.")])

        index.store.database.connection.set_trace_callback(write_before_the_second)
        assert read(index) == before
        assert selects >= 2


def test_dialogues_are_found_by_their_situation(tiny_index: Index) -> None:
    passage = next(passage for passage in tiny_index.passages() if passage.source == "d-eggs")
    assert passage.kind == "dialogue"
    assert passage.search_text == "How long do I boil an egg?"
    assert tiny_index.search("six minutes yolk", mode="lexical", filter={"kind": "dialogue"}) == []


def test_an_index_refuses_another_embedder(
    corpus: Path, tmp_path: Path, embedder: HashingEmbedder, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    Index.build([corpus], tmp_path / "index", embedder=embedder).close()
    other = DeterministicFakeEmbedding(size=16)
    with Index.open(tmp_path / "index", embedder=other) as index:
        with pytest.raises(EmbedderMismatch) as caught:
            index.search("apples")
        assert "hashing" in caught.value.problem
        assert "langchain:DeterministicFakeEmbedding" in caught.value.problem
        assert caught.value.fix.endswith("index.rebuild(embedder=...)")  # a command cannot name an object
        with pytest.raises(EmbedderMismatch):
            index.add([Document("new", "text")])
        assert index.search("apples", mode="lexical")
        index.rebuild(embedder=other)
        assert index.search("apples", k=3)
        index.verify()
    with Index.open(tmp_path / "index") as index, pytest.raises(ModelError, match="object"):
        index.search("apples")
    with Index.open(tmp_path / "index", embedder=tiny_embedder) as index:
        with pytest.raises(EmbedderMismatch) as caught:
            index.search("apples")
        index.rebuild(embedder=caught.value.fix.partition("--embedder ")[2])
        assert index.search("apples")


def test_building_with_other_settings_replaces_in_one_commit(
    corpus: Path, tmp_path: Path, embedder: HashingEmbedder
) -> None:
    path = tmp_path / "index"
    Index.build([corpus], path, embedder=embedder).close()
    other = HashingEmbedder("other", salt=1)
    with Index.open(path, embedder=embedder) as reader, Index.build([corpus], path, embedder=other) as index:
        assert index.report is not None
        assert (index.report.added, index.identity.name) == (3, "other")
        index.verify()
        with pytest.raises(EmbedderMismatch):  # a reader that is open notices
            reader.search("apples")
    settings = IndexSettings(chunk_tokens=8, overlap=0)
    (corpus / "a.md").write_text(
        "Apples are red and round and sweet. Pears are not at all.", encoding="utf-8"
    )
    with Index.build([corpus], path, embedder=other, settings=settings) as index:
        assert index.info()["passages"] > 3
        assert index.settings.chunk_tokens == 8


def test_the_kind_of_index_can_be_chosen_and_changed(
    tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "FLAT_BELOW", 250)
    many = [Document(f"m{i}", f"Text {i} of {i % 7} about {i % 11}.") for i in range(300)]
    with Index.build(many, tmp_path / "index", embedder=embedder) as flat:
        expected = [hit.score for hit in flat.search("Text 3 about 7", k=5, mode="dense")]
    for kind in ("ivf", "ivfpq", "hnsw"):
        settings = IndexSettings(index_type=kind)
        with Index.build(many, tmp_path / "index", embedder=embedder, settings=settings) as index:
            assert (index.info()["index_type"], index.report and index.report.unchanged) == (kind, 300)
            assert index.info()["recall"] >= 0.95
            scores = [hit.score for hit in index.search("Text 3 about 7", k=5, mode="dense")]
            assert scores == pytest.approx(expected, abs=1e-5)
            index.verify()
    with Index.open(tmp_path / "index", embedder=embedder) as index:
        index.remove([f"m{i}" for i in range(100)])
        assert index.info()["index_type"] == "flat"
        index.verify()


def test_wrong_use(corpus: Path, tmp_path: Path, embedder: HashingEmbedder) -> None:
    with pytest.raises(IndexNotFound, match="no index"):
        Index.open(tmp_path / "nothing")
    with pytest.raises(CorpusError, match="no file or folder"):
        Index.build([corpus / "nothing"], tmp_path / "index", embedder=embedder)
    with pytest.raises(UsageError, match="list"):
        Index.build(str(corpus), tmp_path / "index", embedder=embedder)
    assert not (tmp_path / "index").exists()


def test_passages_longer_than_the_embedder_reads_are_refused(tiny_index: Index, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at most 254"):
        Index.build(
            [], tmp_path / "index", embedder=tiny_index.embedder, settings=IndexSettings(chunk_tokens=300)
        )


def test_failing_on_an_error_leaves_the_index_as_it_was(
    corpus: Path, tmp_path: Path, embedder: HashingEmbedder
) -> None:
    with Index.build([corpus], tmp_path / "index", embedder=embedder) as index:
        (corpus / "a.md").write_text("Changed.", encoding="utf-8")
        (corpus / "bad.jsonl").write_text("{broken\n", encoding="utf-8")
        generation = index.info()["generation"]
        with pytest.raises(CorpusError, match="jsonl"):
            index.sync([corpus], on_error="fail")
        assert index.info()["generation"] == generation
        report = index.sync([corpus])
        assert (report.updated, [one.line for one in report.skipped][:1]) == (1, [1])


def test_progress_is_reported_after_each_commit(tmp_path: Path, embedder: HashingEmbedder) -> None:
    seen: list[tuple[int, int]] = []
    many = [Document(f"m{i}", f"Text {i}.") for i in range(600)]
    Index.build(
        many, tmp_path / "index", embedder=embedder, progress=lambda *counts: seen.append(counts)
    ).close()
    assert seen == [(512, 512), (600, 600)]


def test_progress_is_shown_on_standard_error(
    tmp_path: Path, embedder: HashingEmbedder, capfd: pytest.CaptureFixture[str]
) -> None:
    Index.build([Document("a", "Text.")], tmp_path / "index", embedder=embedder, progress=True).close()
    out, err = capfd.readouterr()
    assert (out, "passages" in err) == ("", True)


def test_empty_documents_and_an_empty_index(tmp_path: Path, embedder: HashingEmbedder) -> None:
    with Index.build([], tmp_path / "index", embedder=embedder) as index:
        assert index.search("anything") == []
        report = index.add([Document("empty", "")])
        assert (report.added, report.passages) == (1, 0)
        assert index.add([Document("empty", "")]).unchanged == 1
        index.verify()
