"""How well a calibrated model knows what it does not know, near its topics and far from them.

    python -m benchmarks.abstention DIALOGUES... -i INDEX -m MODEL --data FOLDER [-o abstention.json]

DIALOGUES are set aside: neither in the index nor trained on. What is shown comes of folds by conversation;
the card of MODEL gets the fit on all. Near: turns without an answer, and grounded turns without the passages
that hold their fact. Far: questions about other articles (SQuAD, in `--data`).
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from rag_chat.conversation.abstention import auroc, risk_coverage
from rag_chat.generation.checkpoint import NEVER_ABSTAIN, keep_calibration, read_card
from rag_chat.generation.seq2seq import Seq2SeqGenerator
from rag_chat.retrieval.index import Index
from rag_chat.training.abstention import fit, held_out, try_out
from rag_chat.training.run import read_dialogues
from rag_chat.types import Dialogue, Message

FAR = 60


def far_questions(data: Path, count: int, seed: int = 0) -> list[Dialogue]:
    """Questions of which no starter article knows anything, as conversations of one turn."""
    with lzma.open(next((data / "squad_half").glob("*.jsonl.xz")), "rt", encoding="utf-8") as file:
        asked = sorted({json.loads(line)["question"] for line in file})
    chosen = random.Random(seed).sample(asked, count)
    reply = Message("assistant", "I could not find that.", abstained=True)
    return [Dialogue(f"far-{n}", (Message("user", q), reply)) for n, q in enumerate(chosen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dialogues", type=Path, nargs="+")
    parser.add_argument("-i", "--index", type=Path, required=True)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    settings = read_card(options.model)
    assert settings is not None
    forced = Seq2SeqGenerator(options.model, settings=replace(settings, abstain_bias=NEVER_ABSTAIN))
    dialogues = read_dialogues(options.dialogues)
    with Index.open(options.index) as index:
        near = try_out(dialogues, index, forced, k=5)
        far = try_out(far_questions(options.data, FAR), index, forced, k=5)
    calibration = fit(near)
    keep_calibration(options.model, asdict(calibration))

    good = np.array([trial.answerable for trial in near])
    natural = np.array([trial.natural for trial in near])
    scores = held_out(np.array([trial.known for trial in near]), good, [trial.dialogue for trial in near])
    far_scores = np.array([calibration.probability(trial.known) for trial in far])
    both = np.concatenate([scores[good], far_scores])
    labels = np.arange(len(both)) < good.sum()
    answered, quoted, withheld = np.array([[t.answered, t.quoted, t.withheld] for t in near]).T
    threshold = calibration.threshold or 0.0
    kept = np.where(scores >= threshold, answered, withheld)[natural]
    said = np.where(scores < calibration.quote, quoted, answered)
    all_three = np.where(scores >= threshold, said, withheld)[natural]
    own = np.where([t.known[4] < 0 for t in near], answered, withheld)[natural]
    found = {
        "turns": len(near),
        "answerable": int(good.sum()),
        "auroc near": calibration.auroc,
        "auroc far": auroc(both, labels),
        "coverage at 90% precision": calibration.coverage_at(0.9),
        "threshold": calibration.threshold,
        "far questions declined": float((far_scores < threshold).mean()),
        "score, always answering": float(answered[natural].mean()),
        "score, as the model decides": float(own.mean()),
        "score, calibrated": float(kept.mean()),
        "score, quoting too": float(all_three.mean()),
        "quotes below": calibration.quote,
        "curve": risk_coverage(scores, good),
    }
    print(json.dumps(found, indent=2))
    if options.output:
        options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
