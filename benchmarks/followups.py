"""What to search for in a conversation: fixed policies against the library's, on six multi-turn sets.

    python -m benchmarks.followups --data FOLDER [--work FOLDER] [-o followups.json]

Half of each set's conversations served to choose the constants of `rag_chat.conversation`; the figures
are of the other half. Recall@5 is the share of turns with a document of the evidence among five passages.
BLEU is that of the reader's rewrites, and of the turns as they are, with those that people wrote. The train
conversations of *starter* and *changed* taught the reader to rewrite; those of the other sets did not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.multi_turn import SETS, Case, load
from rag_chat.conversation.evidence import DEPTH, find_evidence
from rag_chat.conversation.query import acceptable, plan, rewrites_for
from rag_chat.evaluation.intervals import mean_interval
from rag_chat.evaluation.metrics import bleu
from rag_chat.generation.seq2seq import PACKAGED_READER, Seq2SeqGenerator
from rag_chat.retrieval.fusion import fuse_hits
from rag_chat.retrieval.index import Index
from rag_chat.types import Hit, Turn

K = 5
Policy = Callable[[Case], Sequence[str]]


def _previous_turn(case: Case) -> str:
    asked = [message.content for message in case.history if message.role == "user"]
    return " ".join([*asked[-1:], case.question])


def _last_words(case: Case, words: int) -> str:
    talk = " ".join(message.content for message in case.history)
    return " ".join([*talk.split()[-words:], case.question])


FIXED: dict[str, Policy] = {
    "raw turn": lambda case: [case.question],
    "with the previous turn": lambda case: [_previous_turn(case)],
    "with the last 40 words": lambda case: [_last_words(case, 40)],
    "with the last 80 words": lambda case: [_last_words(case, 80)],
    "always fused": lambda case: [case.question, _last_words(case, 80)],
}
REWRITTEN, PARTS, OURS, GOLD = (
    "rewritten by the reader", "decided per turn, without rewrites", "decided per turn", "stand-alone by hand"
)  # fmt: skip


def measure(
    name: str, data: Path, work: Path, most: int, reader: Seq2SeqGenerator
) -> dict[str, tuple[float, float, float]]:
    """Recall@5 with its 95% interval by policy, on the conversations set aside to measure."""
    corpus = load(name, data)
    cases = corpus.part("measure", most)
    rewrites = _rewrites(cases, reader)
    with Index.build(list(corpus.documents), work / name) as index:
        found = {policy: _fixed(index, cases, ask) for policy, ask in FIXED.items()}
        for policy, said in ((PARTS, [""] * len(cases)), (OURS, rewrites)):
            plans = [plan(c.question, c.history, text) for c, text in zip(cases, said, strict=True)]
            found[policy] = [evidence.hits for evidence in find_evidence(index, plans, K)]
        taken = [text or case.question for text, case in zip(rewrites, cases, strict=True)]
        by_case = dict(zip(map(id, cases), taken, strict=True))
        found[REWRITTEN] = _fixed(index, cases, lambda case: [by_case[id(case)]])
        if all(case.rewrite for case in cases):
            found[GOLD] = _fixed(index, cases, lambda case: [case.rewrite])
            wanted = [case.rewrite for case in cases]
            raw = bleu([case.question for case in cases], wanted)
            print(
                f"{name}: BLEU of the rewrites {bleu(taken, wanted):.1f}, of the turns as they are {raw:.1f}"
            )
    scores = {
        policy: [
            float(any(hit.passage.source in case.gold for hit in hits))
            for case, hits in zip(cases, hits_of, strict=True)
        ]
        for policy, hits_of in found.items()
    }
    return {policy: mean_interval(values) for policy, values in scores.items()}


def _rewrites(cases: Sequence[Case], reader: Seq2SeqGenerator) -> list[str]:
    """What the reader makes of each turn that depends on its history, as in service; "" for the others."""
    said = rewrites_for([Turn(case.question, case.history) for case in cases], reader)
    return [
        text if acceptable(text, case.question, case.history) else ""
        for text, case in zip(said, cases, strict=True)
    ]


def _fixed(index: Index, cases: Sequence[Case], ask: Policy) -> list[Sequence[Hit]]:
    """What a fixed policy finds: its queries fused with equal weights."""
    queries = [list(ask(case)) for case in cases]
    flat = iter(index.search_many([text for texts in queries for text in texts], DEPTH))
    return [fuse_hits([next(flat) for _ in texts], [1.0] * len(texts))[:K] for texts in queries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument(
        "--work", type=Path, default=Path("indexes/followups"), help="where indexes are built"
    )
    parser.add_argument("-m", "--model", default=PACKAGED_READER, help="a reader that can rewrite")
    parser.add_argument("--most", type=int, default=150, help="turns of each set")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    reader = Seq2SeqGenerator(options.model)
    table = {name: measure(name, options.data, options.work, options.most, reader) for name in SETS}
    print(f"| recall@{K} | {' | '.join(table)} |\n|{' --- |' * (len(table) + 1)}")
    for policy in [*FIXED, REWRITTEN, PARTS, OURS, GOLD]:
        cells = [_cell(table[name].get(policy)) for name in table]
        print(f"| {policy} | {' | '.join(cells)} |")
    if options.output:
        options.output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def _cell(interval: tuple[float, float, float] | None) -> str:
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in interval)) if interval else ""


if __name__ == "__main__":
    main()
