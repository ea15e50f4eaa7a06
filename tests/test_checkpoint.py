"""A checkpoint is written whole or not at all, and one that is damaged is not loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch

from rag_chat.config import GenerationSettings
from rag_chat.errors import ModelError, UsageError
from rag_chat.generation.checkpoint import read_card, save_checkpoint
from rag_chat.generation.seq2seq import load_seq2seq

TOKENIZER = models.wordpiece()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(models.bart(TOKENIZER), TOKENIZER, tmp_path / "model", models.SHORT)
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / "rag_chat.json").read_text())
    change(card)
    (folder / "rag_chat.json").write_text(json.dumps(card))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def test_saving_and_loading_is_the_identity(saved: Path) -> None:
    model, tokenizer = load_seq2seq(str(saved))
    wanted = weights(models.bart(TOKENIZER))
    assert wanted.keys() == weights(model).keys()
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights(model).items())
    assert tokenizer("An egg?").input_ids == TOKENIZER("An egg?").input_ids
    assert read_card(saved) == models.SHORT
    assert {path.suffix for path in saved.iterdir()} <= {".json", ".safetensors", ".txt"}


def test_a_model_made_elsewhere_has_no_card(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None


def test_another_prompt_version_is_refused(saved: Path) -> None:
    edit(saved, lambda card: card.update(prompt_version=0))
    with pytest.raises(ModelError, match="prompt version 0") as caught:
        read_card(saved)
    assert "rag-chat train" in caught.value.fix


def test_a_flipped_byte_is_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_card(saved)


def test_a_missing_file_is_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_card(saved)


def test_unknown_settings_are_refused(saved: Path) -> None:
    edit(saved, lambda card: card["generation"].update(input_token=3))
    with pytest.raises(UsageError, match="input_token") as caught:
        read_card(saved)
    assert "input_tokens" in caught.value.fix


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"prompt_version": 1, "sha256": 3}'])
def test_a_damaged_card_is_refused(saved: Path, content: str) -> None:
    (saved / "rag_chat.json").write_text(content)
    with pytest.raises(ModelError, match=r"rag_chat\.json is damaged"):
        read_card(saved)


@pytest.mark.parametrize("place", ["rename", "write_text"])
def test_a_crash_leaves_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(Path, place, _crash)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(models.bart(TOKENIZER, seed=1), TOKENIZER, saved, GenerationSettings())
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    save_checkpoint(models.bart(TOKENIZER, seed=1), TOKENIZER, saved, GenerationSettings())
    assert read_card(saved) == GenerationSettings()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_kill_between_the_renamings_is_mended(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved.rename(saved.with_name("model.old"))
    monkeypatch.setattr(Path, "write_text", _crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(models.bart(TOKENIZER), TOKENIZER, saved, GenerationSettings())
    assert read_card(saved) == models.SHORT


def _crash(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_is_no_model_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.md"):
        with pytest.raises(ModelError, match="is not a model"):
            save_checkpoint(models.bart(TOKENIZER), TOKENIZER, taken, models.SHORT)
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_checkpoint(models.bart(TOKENIZER), TOKENIZER, tmp_path / "model", models.SHORT)
    assert read_card(tmp_path / "model") == models.SHORT
