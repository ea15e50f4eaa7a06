"""The training mixture: the same data gives the same files, and what is set aside is in none of them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from rag_chat.training.recipe.__main__ import main
from rag_chat.training.recipe.exercises import joined, sentence_with, set_aside

ARTICLES = [f"Article_{n}" for n in range(24)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A SQuAD of 24 articles, one paragraph and two questions each, and some prose."""
    rows = []
    for title in ARTICLES:
        context = f"The tower of {title} was built by the mason {title} long before the great fire came."
        about = {"title": title, "context": context}
        rows.append(
            {**about, "question": "Who built it?", "answers": [f"the mason {title}"], "answerable": True}
        )
        rows.append({**about, "question": "Why?", "answers": [], "answerable": False})
    write_rows(tmp_path / "squad_half" / "train.jsonl.xz", rows)
    prose = [
        {"title": "", "text": f"In 19{n} the river town of Alba had {n} bridges over it."}
        for n in range(10, 90)
    ]
    write_rows(tmp_path / "prose" / "wikitext.jsonl.xz", prose)
    return tmp_path


def test_what_is_set_aside_is_in_no_file(data: Path, tmp_path: Path) -> None:
    held_out = [title for title in ARTICLES if set_aside(title)]
    assert 0 < len(held_out) < len(ARTICLES) / 2
    main(data, tmp_path / "out")
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert not any(f'"the mason {title}"' in written or f"tower of {title} " in written for title in held_out)
    assert all(f"tower of {title} " in written for title in ARTICLES if not set_aside(title))


def test_the_same_data_gives_the_same_files(data: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        main(data, tmp_path / out)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_corpus_that_is_absent_is_left_out(tmp_path: Path) -> None:
    main(tmp_path / "nothing", tmp_path / "out")
    assert (tmp_path / "out" / "reading.jsonl").read_text() == ""


def test_tokens_close_up() -> None:
    assert joined("It 's 5 % ( or so ) .") == "It's 5% (or so)."


def test_a_sentence_is_found_by_its_answer() -> None:
    text = "The first one has nothing to say here. The second one names the river Po twice."
    assert sentence_with("river Po", text) == "The second one names the river Po twice."
    assert sentence_with("Rhine", text) == ""
