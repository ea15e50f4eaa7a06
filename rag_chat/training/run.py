"""`rag-chat train` from end to end: dialogues, their evidence, examples, fine-tuning."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.corpus import read_sources
from rag_chat.errors import TrainingError
from rag_chat.generation.seq2seq import load_seq2seq
from rag_chat.generation.warm_start import WARM_START, warm_start
from rag_chat.index.packaged import packaged_path
from rag_chat.retrieval.index import Index
from rag_chat.training.evidence import gather
from rag_chat.training.examples import Example, turn_examples
from rag_chat.training.finetune import TrainingReport, finetune
from rag_chat.types import Dialogue, Skipped

DEV_SHARE = 0.1


def train(
    dialogues: Sequence[Path],
    output: Path,
    *,
    index: Path | None = None,
    base: str = "reader",
    dev: Sequence[Path] = (),
    settings: TrainingSettings | None = None,
    generation: GenerationSettings | None = None,
    resume: bool = False,
    skipped: list[Skipped] | None = None,
) -> TrainingReport:
    """Fine-tune `base` on dialogues and write the model to `output`.

    Replies that carry their passages are trained on those; for the others the index is searched as it
    is in service, the conversation itself left out. Without `dev`, a seeded tenth of the conversations
    is held out. Raises TrainingError when a dev conversation is in the index.
    """
    settings = settings or TrainingSettings()
    kept = read_dialogues(dialogues, skipped)
    held_out = read_dialogues(dev, skipped) if dev else []
    if not held_out:
        kept, held_out = split(kept, DEV_SHARE, settings.seed)
    examples, dev_examples = _examples(kept, held_out, index, settings)
    model, tokenizer = _base(base)
    return finetune(
        model,
        tokenizer,
        examples,
        dev_examples,
        output,
        settings=settings,
        generation=generation or GenerationSettings(),
        resume=resume,
    )


def read_dialogues(paths: Sequence[Path], skipped: list[Skipped] | None = None) -> list[Dialogue]:
    """Read the dialogues of files and folders, leaving topic documents aside."""
    return [item for item in read_sources(paths, skipped=skipped) if isinstance(item, Dialogue)]


def split(dialogues: Sequence[Dialogue], share: float, seed: int) -> tuple[list[Dialogue], list[Dialogue]]:
    """Split by conversation, seeded: (the rest, a share of at least one)."""
    if len(dialogues) < 2:
        raise TrainingError(
            f"There are {len(dialogues)} conversations; at least 2 are needed, one of them to test on.",
            "Give more dialogues.",
        )
    shuffled = list(dialogues)
    random.Random(seed).shuffle(shuffled)
    held_out = max(1, round(share * len(shuffled)))
    return shuffled[held_out:], shuffled[:held_out]


def _examples(
    kept: Sequence[Dialogue], held_out: Sequence[Dialogue], folder: Path | None, settings: TrainingSettings
) -> tuple[list[Example], list[Example]]:
    if folder is None:
        return _own_passages(kept), _own_passages(held_out)
    with Index.open(folder) as index:
        leaked = [dialogue.id for dialogue in held_out if index.has_source(dialogue.id)]
        if leaked:
            raise TrainingError(
                f"{len(leaked)} held-out conversations are in the index, {leaked[0]!r} for one.",
                f"Take them out with: rag-chat index rm {folder} {leaked[0]} ...",
            )
        rng = random.Random(settings.seed)
        return (
            gather(kept, index, k=settings.passages, gold_dropout=settings.gold_dropout, rng=rng),
            gather(held_out, index, k=settings.passages, gold_dropout=0.0, rng=rng),
        )


def _own_passages(dialogues: Sequence[Dialogue]) -> list[Example]:
    return [example for dialogue in dialogues for example in turn_examples(dialogue)]


def _base(base: str) -> tuple[Any, Any]:
    if base == WARM_START:
        return warm_start(packaged_path())
    return load_seq2seq(base)
