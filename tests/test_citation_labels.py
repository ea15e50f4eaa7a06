"""Citations held against labels: which spans of the starter articles support each sentence, or none.

The labels were written by reading the articles. A sentence that says two things has spans for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rag_chat.generation.citations import find_support
from rag_chat.index.embedding import load_embedder
from rag_chat.types import Citation, Embedder, Passage

TOPICS = Path(__file__).parents[1] / "corpora" / "topics"
CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "citations.jsonl").read_text("utf-8").splitlines()
]
PRECISION, RECALL = 0.9, 0.8

Span = tuple[str, int, int]


@pytest.fixture(scope="module")
def texts() -> Mapping[str, str]:
    sources = {source for case in CASES for source in case["sources"]}
    return {source: (TOPICS / source).read_text("utf-8") for source in sources}


def paragraphs(source: str, text: str) -> Iterator[Passage]:
    """The paragraphs of an article as passages, with the headings above them as context."""
    title = context = ""
    for match in re.finditer(r"\S.*?(?=\n\n|\s*\Z)", text, re.DOTALL):
        block = match.group()
        if block.startswith("#"):
            heading = block.lstrip("# ")
            title = title or heading
            context = title if heading == title else f"{title} > {heading}"
        else:
            yield Passage(f"{source}#{match.start()}", source, title, block, *match.span(), context=context)


def groups(case: Mapping[str, Any], texts: Mapping[str, str]) -> list[list[Span]]:
    """For each thing said that has support, the spans that do."""
    found = []
    for sentence in case["sentences"]:
        for quotes in sentence["support"]:
            places = [(s, texts[s].find(q), len(q)) for s in case["sources"] for q in quotes if q in texts[s]]
            found.append([(source, start, start + length) for source, start, length in places])
    return found


def agrees(citation: Citation, span: Span) -> bool:
    """Whether they share at least half of the shorter one."""
    source, start, end = span
    shared = min(citation.end, end) - max(citation.start, start)
    return citation.source == source and 2 * shared >= min(end - start, citation.end - citation.start)


def scores(texts: Mapping[str, str], embedder: Embedder | None) -> tuple[float, float]:
    """Precision: the share of citations that agree with a label; recall: of labels with a citation."""
    right, found = [], []
    for case in CASES:
        passages = [passage for source in case["sources"] for passage in paragraphs(source, texts[source])]
        answer = " ".join(sentence["text"] for sentence in case["sentences"])
        citations = find_support(answer, passages, embedder=embedder).citations
        wanted = groups(case, texts)
        right += [any(agrees(one, span) for group in wanted for span in group) for one in citations]
        found += [any(agrees(one, span) for span in group for one in citations) for group in wanted]
    return sum(right) / len(right), sum(found) / len(found)


def test_every_label_is_in_its_article(texts: Mapping[str, str]) -> None:
    assert len(CASES) >= 200
    assert all(group for case in CASES for group in groups(case, texts))


@pytest.mark.parametrize("meaning", [False, True], ids=["words", "words and meaning"])
def test_citations_agree_with_the_labels(texts: Mapping[str, str], meaning: bool) -> None:
    precision, recall = scores(texts, load_embedder("all-MiniLM-L6-v2") if meaning else None)
    assert precision >= PRECISION
    assert recall >= RECALL


def test_what_has_no_support_is_marked(texts: Mapping[str, str]) -> None:
    rightly, wrongly = [], []
    for case in CASES:
        passages = [passage for source in case["sources"] for passage in paragraphs(source, texts[source])]
        for sentence in case["sentences"]:
            marked = bool(find_support(sentence["text"], passages).unsupported)
            (wrongly if sentence["support"] else rightly).append(marked)
    assert sum(rightly) / len(rightly) >= 0.8
    assert sum(wrongly) / len(wrongly) <= 0.1
