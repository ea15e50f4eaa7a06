"""A bot in one file: what goes in comes out, and what was tampered with does not."""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving import CORPUS, PATIENCE, served
from writer_process import HashingEmbedder

from rag_chat.assistant import Assistant
from rag_chat.commands import cli
from rag_chat.errors import UsageError
from rag_chat.retrieval.index import Index
from rag_chat.serving.app import create_app
from rag_chat.serving.bundle import MANIFEST, BundleError, make_bundle, unpacked

if TYPE_CHECKING:
    from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder

ROOT = Path(__file__).parent.parent
QUESTION = "How long do I boil an egg?"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_embedder: SentenceTransformerEmbedder) -> Path:
    """An extractive bot with an embedder of its own, whose folder is gone afterwards."""
    folder = tmp_path_factory.mktemp("bundled")
    with Index.build(CORPUS, folder / "index", embedder=tiny_embedder) as index:
        make_bundle(index, "extractive", folder / "bot.zip")
    return folder / "bot.zip"


def test_a_bundle_answers_as_the_index_it_was_made_of(bundle: Path) -> None:
    with Index.open(bundle.parent / "index") as index:
        before = Assistant(index, "extractive").ask(QUESTION)
    with unpacked(bundle) as found:
        assert found.embedder is not None
        with Index.open(found.index, embedder=found.embedder) as index:
            after = Assistant(index, found.model).ask(QUESTION)
        place = found.index
    assert after.text == before.text
    assert [hit.passage.id for hit in after.hits] == [hit.passage.id for hit in before.hits]
    assert not place.exists()


def test_the_weights_and_the_licence_travel_along(
    tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    model = tmp_path / "mine"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / ".cache").write_text("stays behind")
    with Index.build(CORPUS, tmp_path / "index", embedder=tiny_embedder) as index:
        manifest = make_bundle(index, str(model), tmp_path / "bot.zip")
        again = make_bundle(index, str(model), tmp_path / "again.zip")
        with pytest.raises(UsageError, match="weights") as caught:
            make_bundle(index, "google/flan-t5-base", tmp_path / "none.zip")
    assert "download google/flan-t5-base, then bundle it with -m flan-t5-base" in caught.value.fix
    assert manifest == again
    assert (tmp_path / "bot.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert {name for name in manifest["files"] if not name.startswith("embedder/")} == {
        "model/mine/config.json",
        "licences/rag_chat.txt",
        "index/manifest.json",
        "index/passages.sqlite",
        "index/vectors.faiss",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zip", "bot.zip", "index", "mine"]


def test_a_model_keeps_its_name(
    tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder, trained_reader: Path
) -> None:
    with Index.build(CORPUS, tmp_path / "index", embedder=tiny_embedder) as index:
        make_bundle(index, str(trained_reader), tmp_path / "bot.zip")
    with (
        unpacked(tmp_path / "bot.zip") as found,
        Index.open(found.index, embedder=found.embedder) as index,
    ):
        bot = Assistant(index, found.model)
        assert bot.ask(QUESTION).text
        with served(create_app(bot)) as address:
            names = httpx.get(f"{address}/v1/models", timeout=PATIENCE).json()["data"]
    assert names[0]["id"] == trained_reader.name


def test_an_embedder_that_is_an_object_cannot_be_bundled(tmp_path: Path) -> None:
    with (
        Index.build([], tmp_path / "index", embedder=HashingEmbedder()) as index,
        pytest.raises(UsageError, match="is no folder"),
    ):
        make_bundle(index, "extractive", tmp_path / "bot.zip")


@dataclass
class Parts:
    """A bundle taken apart."""

    files: dict[str, bytes]
    manifest: dict[str, Any]


Tamper = Callable[[Parts], None]
LICENCE = "licences/rag_chat.txt"


def _with_content(change: Callable[[bytes], bytes]) -> Tamper:
    return lambda parts: parts.files.update({LICENCE: change(parts.files[LICENCE])})


def _with_size(size: int) -> Tamper:
    return lambda parts: parts.manifest["files"][LICENCE].update(bytes=size)


def _with_name(name: str) -> Tamper:
    def tamper(parts: Parts) -> None:
        for names in (parts.files, parts.manifest["files"]):
            names[name] = names.pop(LICENCE)

    return tamper


TAMPERED = {
    "longer": _with_content(lambda text: text + b"x"),
    "changed": _with_content(lambda text: b"X" + text[1:]),
    "missing": lambda parts: parts.files.pop(LICENCE),
    "unnamed": lambda parts: parts.files.update(extra=b"x"),
    "upwards": _with_name("../../evil.txt"),
    "upwards inside": _with_name("model/../../evil.txt"),
    "absolute": _with_name("/tmp/evil.txt"),
    "backslash": _with_name("..\\evil.txt"),
    "hidden": _with_name("model/.evil"),
    "bomb": _with_size(10**15),
    "negative": _with_size(-1),
    "of the future": lambda parts: parts.manifest.update(format=99),
    "shapeless": lambda parts: parts.manifest.update(files=[LICENCE]),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_a_bundle_that_was_tampered_with_is_refused(bundle: Path, tmp_path: Path, tamper: Tamper) -> None:
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop(MANIFEST))
    tamper(Parts(files, manifest))
    evil = tmp_path / "folder" / "evil.zip"
    evil.parent.mkdir()
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest))
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError), unpacked(evil):
        pytest.fail("it was unpacked")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "evil.zip"]


def test_links_and_files_given_twice_are_refused(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for twice in (False, True):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                if name == "licences/rag_chat.txt" and not twice:
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, content)
            if twice:
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr("licences/rag_chat.txt", files["licences/rag_chat.txt"])
        with pytest.raises(BundleError), unpacked(tmp_path / "evil.zip"):
            pytest.fail("it was unpacked")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 100])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bot.zip").write_bytes(content)
    with pytest.raises(BundleError, match="no sound bundle"), unpacked(tmp_path / "bot.zip"):
        pytest.fail("it was unpacked")


def test_every_flipped_byte_is_noticed_or_harmless(bundle: Path, tmp_path: Path) -> None:
    sound = bundle.read_bytes()
    with unpacked(bundle) as found:
        files = {path.name: path.read_bytes() for path in found.index.iterdir()}
    for place in range(0, len(sound), len(sound) // 40):
        bad = tmp_path / "bad.zip"
        bad.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            with unpacked(bad) as found:
                assert {path.name: path.read_bytes() for path in found.index.iterdir()} == files
        except BundleError:
            continue


def test_the_commands_of_the_container_and_the_service_exist() -> None:
    options = {name for parameter in cli.commands["serve"].params for name in parameter.opts}
    service = (ROOT / "deploy" / "rag-chat.service").read_text()
    container = (ROOT / "deploy" / "Dockerfile").read_text()
    (started,) = re.findall(r"^ExecStart=.* serve (.*)$", service, re.MULTILINE)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", container, re.MULTILINE)
    words = [*started.split(), *json.loads(entry)[3:]]
    assert {word for word in words if word.startswith("--")} <= options
    assert "USER 10001" in container
    assert all("[serve,fast]" in installed for installed in (service, container))
