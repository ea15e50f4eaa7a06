"""An index of every released format answers as it did, or is refused with the command that helps."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest
from golden_index import CORPUS, GOLDEN, Remembering, found

from rag_chat.errors import IndexFault
from rag_chat.index.schema import FORMAT_VERSION
from rag_chat.retrieval.index import Index


def golden(version: int, place: Path) -> tuple[Path, Remembering, object]:
    """Unpack a golden index; return its folder, its embedder and what it finds."""
    expected = json.loads((GOLDEN / f"format-{version}" / "expected.json").read_text(encoding="utf-8"))
    with zipfile.ZipFile(GOLDEN / f"format-{version}" / "index.zip") as file:
        file.extractall(place / "index")
    return place / "index", Remembering(expected["vectors"]), expected["found"]


def test_this_format_has_its_golden_index() -> None:
    assert (GOLDEN / f"format-{FORMAT_VERSION}").is_dir()


@pytest.mark.parametrize(
    "version", sorted(int(one.name.partition("-")[2]) for one in GOLDEN.glob("format-*"))
)
@pytest.mark.parametrize("derived", ["kept", "removed"])
def test_a_golden_index_answers_as_it_did(version: int, derived: str, tmp_path: Path) -> None:
    folder, embedder, expected = golden(version, tmp_path)
    if derived == "removed":
        (folder / "vectors.faiss").unlink()
    with Index.open(folder, embedder=embedder) as index:
        assert found(index) == expected
        assert index.add(CORPUS[:2]).unchanged == 2
        index.verify()


def test_an_earlier_format_is_refused_with_the_command(tmp_path: Path) -> None:
    folder, embedder, _ = golden(FORMAT_VERSION, tmp_path)
    connection = sqlite3.connect(folder / "passages.sqlite")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(IndexFault, match="format 1") as caught:
        Index.open(folder)
    assert f"Delete {folder} and build it again: rag-chat index build" in caught.value.fix
    shutil.rmtree(folder)
    Index.build(CORPUS, folder, embedder=embedder).close()
