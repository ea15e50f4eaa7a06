"""What the benchmarks run on: real text, and vectors that cluster as real ones do."""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Public corpora, which are not part of this repository.
DATA = Path(os.environ.get("RAG_CHAT_DATA", "data"))
PROSE = ["openstax", "handbooks", "government", "manuals", "technical_books"]
NOISE = 0.6  # length of the noise added to a unit vector: cosine with its origin about 0.86


def sections(topic: str) -> list[tuple[str, str]]:
    """Return (name, text) of the Markdown files of one topic archive."""
    (archive,) = (DATA / "topics" / topic).glob("*.tar.xz")
    with tarfile.open(archive) as tar:
        files = [member for member in tar.getmembers() if member.isfile() and member.name.endswith(".md")]
        return [
            (member.name, io.TextIOWrapper(tar.extractfile(member), "utf-8").read())  # type: ignore[type-var]
            for member in sorted(files, key=lambda member: member.name)
        ]


def passages(count: int, words: int = 90) -> list[str]:
    """Return `count` passages of real prose, of about `words` words, without repeats."""
    found = list(islice(dict.fromkeys(_pieces(words)), count))
    if len(found) < count:
        raise SystemExit(f"There are only {len(found)} passages in {DATA / 'prose'}.")
    return found


def _pieces(words: int) -> Iterator[str]:
    for name in PROSE:
        with lzma.open(DATA / "prose" / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
            for line in file:
                every = json.loads(line)["text"].split()
                for start in range(0, len(every) - words // 2, words):
                    yield " ".join(every[start : start + words])


def questions(count: int) -> list[str]:
    """Return real questions people asked of encyclopedia paragraphs (SQuAD)."""
    with lzma.open(DATA / "squad_half" / "train.jsonl.xz", "rt", encoding="utf-8") as file:
        found = list(dict.fromkeys(re.findall(r'"question": "([^"\\]{20,200}\?)"', file.read())))
    return found[:: len(found) // count][:count]


def cluster_like(real: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return `count` unit vectors, each one of `real` (n, dim) with noise added.

    They are synthetic: they cluster as the real ones do, and are easier to search than as many real ones.
    """
    draw = np.random.default_rng(seed)
    made = np.empty((count, real.shape[1]), np.float32)
    for start in range(0, count, 100_000):
        block = made[start : start + 100_000]
        noise = draw.standard_normal(block.shape, np.float32)
        noise *= NOISE / np.sqrt(real.shape[1])
        np.add(real[draw.integers(len(real), size=len(block))], noise, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return made


class Cache:
    """Texts, questions and vectors, made once and kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def passages(self) -> list[str]:
        return self._lines("passages.json", lambda: passages(100_000))

    def questions(self) -> list[str]:
        return self._lines("questions.json", lambda: questions(200))

    def _lines(self, name: str, make: Callable[[], list[str]]) -> list[str]:
        path = self.folder / name
        if not path.exists():
            path.write_text(json.dumps(make()), encoding="utf-8")
        lines: list[str] = json.loads(path.read_text("utf-8"))
        return lines

    def vectors(self, count: int) -> NDArray[np.float32]:
        """(count, 384), around the vectors of 1,000 of the passages."""
        path = self.folder / "real.npy"
        if not path.exists():
            from rag_chat.index.minilm import MiniLmEmbedder

            np.save(path, MiniLmEmbedder().embed(self.passages()[::100]))
        made = self.folder / f"vectors-{count}.npy"
        if not made.exists():
            np.save(made, cluster_like(np.load(path), count))
        return np.load(made, mmap_mode="r")
