"""What past conversations add to topic documents: each alone, both, and conversations cut like documents.

    python -m benchmarks.dialogue_retrieval [--work FOLDER] [-o dialogue_retrieval.json]

The starter topics and train conversations are indexed, the dev conversations ask. `document@5`: a passage
of the document that the reply names is among five; `support@5`: one of the five supports the reply, as a
citation would.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.multi_turn import ROOT
from rag_chat.conversation.evidence import find_evidence
from rag_chat.conversation.query import plan
from rag_chat.corpus import read_sources
from rag_chat.corpus.chunking import dialogue_document
from rag_chat.evaluation.cases import Case, cases
from rag_chat.evaluation.intervals import mean_interval
from rag_chat.generation.citations import find_support
from rag_chat.retrieval.index import Index
from rag_chat.types import Dialogue, Hit

K = 5
Interval = tuple[float, float, float]


def _dialogues(part: str) -> list[Dialogue]:
    items = read_sources([ROOT / f"corpora/dialogues/{part}.jsonl"])
    return [item for item in items if isinstance(item, Dialogue)]


def _scored(index: Index, found: Sequence[Case], filter: Mapping[str, str] | None) -> dict[str, Interval]:
    plans = [plan(case.request.question, case.request.history) for case in found]
    evidence = find_evidence(index, plans, K, filter=filter)
    pairs = list(zip(found, (one.hits for one in evidence), strict=True))
    named = [
        any(hit.passage.source.endswith(s) for hit in hits for s in c.reply.sources) for c, hits in pairs
    ]
    return {
        "document@5": mean_interval([float(one) for one in named]),
        "support@5": mean_interval([_supports(case, hits) for case, hits in pairs]),
    }


def _supports(case: Case, hits: Sequence[Hit]) -> float:
    passages = [hit.passage for hit in hits]
    return float(bool(find_support(case.reply.content, passages, question=case.request.question).citations))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("indexes/dialogue-retrieval"))
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    topics = list(read_sources([ROOT / "corpora/topics"]))
    train = _dialogues("train")
    found = [case for dialogue in _dialogues("dev") for case in cases(dialogue) if case.reply.sources]
    with Index.build([*topics, *train], options.work / "exchanges") as index:
        table = {
            "topics only": _scored(index, found, {"kind": "topic"}),
            "dialogues only": _scored(index, found, {"kind": "dialogue"}),
            "both": _scored(index, found, None),
        }
    chunks = [dialogue_document(dialogue) for dialogue in train]
    with Index.build([*topics, *chunks], options.work / "chunks") as index:
        table["topics and naive chunks"] = _scored(index, found, None)
    print(f"{len(found)} grounded turns\n\n| | document@{K} | support@{K} |\n| --- | --- | --- |")
    for arm, scores in table.items():
        cells = ["{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in one)) for one in scores.values()]
        print(f"| {arm} | {' | '.join(cells)} |")
    if options.output:
        options.output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
