"""A recipe from corpora to report: killed, resumed, done again only where something changed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rag_chat.commands.recipe import MANIFEST, cook, read_recipe
from rag_chat.errors import CorpusError, RagChatError, UsageError

if TYPE_CHECKING:
    from rag_chat.index.embedding import SentenceTransformerEmbedder

ROOT = Path(__file__).parent.parent
STAGES = ["split", "index", "train", "eval"]


@pytest.fixture
def recipe(tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder, trained_reader: Path) -> Path:
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "eggs.md").write_text("Boil an egg for six minutes.\n", encoding="utf-8")
    (tmp_path / "topics" / "city.md").write_text("The city of Tromsø lies in Norway.\n", encoding="utf-8")
    lines = []
    for number in range(8):
        asked, said, source = (
            ("How long do I boil an egg?", "Boil an egg for six minutes.", "eggs.md")
            if number % 2
            else ("Where is the city of Tromsø?", "Tromsø lies in Norway.", "city.md")
        )
        messages = [
            {"role": "user", "content": f"{number}: {asked}"},
            {"role": "assistant", "content": said, "sources": [source]},
        ]
        lines.append(json.dumps({"id": f"d{number}", "messages": messages}))
    (tmp_path / "chats.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
output = "bot"
[corpora]
topics = ["topics"]
dialogues = ["chats.jsonl"]
[split]
test = 0.25
[index]
embedder = {json.dumps(tiny_embedder.reference)}
chunk_tokens = 64
[train]
base = {json.dumps(str(trained_reader))}
epochs = 2
batch_size = 2
passages = 1
gold_dropout = 0.0
[eval]
arms = ["tuned", "extractive"]
k = 1
""",
        encoding="utf-8",
    )
    return path


def stages(folder: Path) -> list[str]:
    try:
        return [stage["name"] for stage in json.loads((folder / MANIFEST).read_text())["stages"]]
    except FileNotFoundError:
        return []


def test_killed_resumed_and_done_again_only_where_needed(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bot = recipe.parent / "bot"
    child = subprocess.Popen(
        [sys.executable, "-m", "cli", "run", str(recipe)], cwd=ROOT, stderr=subprocess.DEVNULL, env=os.environ
    )
    while "index" not in stages(bot) and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = stages(bot)
    assert before[:2] == STAGES[:2]

    manifest = cook(read_recipe(recipe))
    told = capsys.readouterr().err
    assert all(f"{name}: done already" in told for name in before)
    assert [stage["name"] for stage in manifest["stages"]] == STAGES
    results = {path: digest for stage in manifest["stages"] for path, digest in stage["results"].items()}
    assert {"dialogues/test.jsonl", "model/model.safetensors", "report/report.html"} <= results.keys()
    for path, digest in results.items():
        assert hashlib.sha256((bot / path).read_bytes()).hexdigest() == digest
    ids = [set(ids_in(bot / "dialogues" / f"{part}.jsonl")) for part in ("train", "dev", "test")]
    assert [len(part) for part in ids] == [5, 1, 2]
    assert len(set.union(*ids)) == 8

    (bot / "index" / "lock").write_text("taken by another process since")
    assert cook(read_recipe(recipe)) == manifest
    assert capsys.readouterr().err.count("done already") == 4

    recipe.write_text(recipe.read_text().replace("k = 1", "k = 2"))
    (bot / "report" / "turns.csv").unlink()
    again = cook(read_recipe(recipe))
    assert again["stages"][:3] == manifest["stages"][:3]
    assert (bot / "report" / "turns.csv").exists()


def ids_in(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "kind", "says"),
    [
        ("[train]", "[training]", UsageError, "unknown part 'training'"),
        ("epochs", "epoch", UsageError, "Unknown setting 'epoch'"),
        ("test = 0.25", "tests = 0.25", UsageError, r"\[split\] has no 'tests'"),
        ("chats.jsonl", "chat.jsonl", CorpusError, "no file or folder .*chat.jsonl"),
        ('"tuned"', '"tunned"', UsageError, "no arm 'tunned'"),
        ('topics = ["topics"]', "", UsageError, "names no topics"),
        ("[eval]", "[eval", CorpusError, "is not a recipe"),
        ('topics = ["topics"]', 'topics = "topics"', UsageError, r"\[corpora\] topics cannot be 'topics'"),
        ("test = 0.25", "test = 1", UsageError, r"\[split\] test cannot be 1"),
        ("test = 0.25", "test = 1.5", UsageError, r"\[split\] test cannot be 1.5"),
        ("test = 0.25", 'seed = "x"', UsageError, r"\[split\] seed cannot be 'x'"),
        ("base = ", "base = 3 # ", UsageError, r"\[train\] base cannot be 3"),
        ("k = 1", 'k = "many"', UsageError, r"\[eval\] k cannot be 'many'"),
        ("k = 1", "k = 0", UsageError, r"\[eval\] k cannot be 0"),
        ('arms = ["tuned", "extractive"]', 'arms = "tuned"', UsageError, r"\[eval\] arms cannot be 'tuned'"),
        ('output = "bot"', "output = 3", UsageError, "output cannot be 3"),
    ],
)
def test_what_is_no_recipe_is_refused(
    recipe: Path, old: str, new: str, kind: type[RagChatError], says: str
) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(kind, match=says):
        read_recipe(recipe)


def test_the_base_may_be_a_downloaded_model(
    recipe: Path, tmp_path: Path, trained_reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_CHAT_HOME", str(tmp_path / "home"))
    downloaded = tmp_path / "home" / "models" / "mine"
    downloaded.mkdir(parents=True)
    recipe.write_text(recipe.read_text().replace(json.dumps(str(trained_reader)), '"mine"'))
    assert read_recipe(recipe).base == str(downloaded)


def test_a_damaged_manifest_says_what_to_do(recipe: Path) -> None:
    (recipe.parent / "bot").mkdir()
    (recipe.parent / "bot" / MANIFEST).write_text("{")
    with pytest.raises(RagChatError, match="is damaged") as caught:
        cook(read_recipe(recipe))
    assert "Remove it" in caught.value.fix
