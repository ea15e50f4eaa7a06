"""Mix the exercises of all corpora into the files that training reads."""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path

from rag_chat.corpus.writing import write_dialogues
from rag_chat.training.cloze import cloze_dialogues
from rag_chat.training.recipe.corpora import READING, glossary, paragraphs, qed, squad
from rag_chat.types import Dialogue

SEED = 13
CLOZE = 60_000
CLOZE_WHILE_READING = 8_000
REPLAYED = 3_500

_log = logging.getLogger(__name__)


def main(data: Path, out: Path) -> None:
    """Write the files, and log how much each corpus gave."""
    out.mkdir(parents=True, exist_ok=True)
    cloze = list(cloze_dialogues(paragraphs(data, SEED), seed=SEED))
    write_dialogues(cloze[:CLOZE], out / "cloze.jsonl")
    reading = cloze[CLOZE : CLOZE + CLOZE_WHILE_READING]
    for make in READING:
        made = list(make(data, random.Random(SEED)))
        _log.info("%s: %d exercises", make.__name__, len(made))
        reading += made
    random.Random(SEED).shuffle(reading)
    write_dialogues(reading, out / "reading.jsonl")
    write_dialogues(replay(data, random.Random(SEED + 1)), out / "replay.jsonl")


def replay(data: Path, rng: random.Random) -> list[Dialogue]:
    """Questions answered by whole sentences, as dialogues are: for going on reading while tuning on those."""
    made = [*squad(data, rng, whole=1.0), *qed(data, rng), *glossary(data, rng)]
    sized = [one for one in made if 5 <= len(_answer(one).split()) <= 30]
    return rng.sample(sized, min(REPLAYED, len(sized)))


def _answer(dialogue: Dialogue) -> str:
    reply = dialogue.messages[-1]
    return "" if reply.abstained else reply.content


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
