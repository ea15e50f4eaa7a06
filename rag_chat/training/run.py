"""`rag-chat train` from end to end: dialogues, their evidence, examples, fine-tuning, the verdict."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.corpus import read_sources
from rag_chat.corpus.identity import conversation_hash
from rag_chat.errors import CorpusError, TrainingError
from rag_chat.generation.checkpoint import check_replaceable, move_checkpoint, read_card
from rag_chat.generation.classic import Arch
from rag_chat.generation.classic.ngram import COUNTS, NgramGenerator
from rag_chat.generation.seq2seq import PACKAGED_READER, Seq2SeqGenerator, load_seq2seq, packaged_reader
from rag_chat.generation.warm_start import WARM_START, warm_start
from rag_chat.index.packaged import packaged_path
from rag_chat.retrieval.index import Index
from rag_chat.training.classic import count_ngrams, new_model
from rag_chat.training.duplicates import NearDuplicate, near_duplicates
from rag_chat.training.evidence import as_served, gather
from rag_chat.training.examples import Example, judgement_examples, rewrite_examples, turn_examples
from rag_chat.training.finetune import finetune, is_first_process
from rag_chat.training.report import Run, add_verdict, data_hashes
from rag_chat.training.verdict import Verdict, answer_scores, judge, sampled
from rag_chat.types import Dialogue, Skipped

HELD_OUT = 0.1
MOST_HELD_OUT = 300  # conversations for each of the two: enough to tell, and soon scored
SHOWN = 5  # near-duplicates in the log; all are in training.json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """Conversations to train on, to choose the checkpoint by, and to judge on; no test part: by dev again."""

    train: Sequence[Dialogue]
    dev: Sequence[Dialogue]
    test: Sequence[Dialogue]

    @property
    def sizes(self) -> dict[str, int]:
        return {"train": len(self.train), "dev": len(self.dev), "test": len(self.test)}


def train(
    dialogues: Sequence[Path],
    output: Path,
    *,
    index: Path | None = None,
    base: str = PACKAGED_READER,
    arch: Arch = "transformer",
    dev: Sequence[Path] = (),
    test: Sequence[Path] = (),
    settings: TrainingSettings | None = None,
    generation: GenerationSettings | None = None,
    resume: bool = False,
    force: bool = False,
    skipped: list[Skipped] | None = None,
) -> Run | None:
    """Fine-tune `base` on dialogues and write the model to `output`, unless it answers worse than `base`.

    Replies that carry their passages are trained on those; for the others the index is searched as it
    is in service, the conversation itself left out. Without `dev`, two seeded tenths of the
    conversations are held out, one to choose the checkpoint and one for the verdict; with `dev` and
    without `test`, dev serves for both. A worse model stays in `<output>.not-promoted`, unless
    forced. `arch` starts a new "rnn" or "cnn" in the words of the base, or counts ("ngram"); with no base
    to compare with, those are always promoted. `generation` is by default that of the base. Under
    `torchrun` all processes but the first return None. Raises TrainingError when a held-out conversation
    is in the index.
    """
    settings = settings or TrainingSettings()
    generation = generation or served_as(base)
    if arch != "transformer":
        generation = replace(generation, copy=False)
    check_replaceable(output)
    parts = read_parts(dialogues, dev, test, settings.seed, skipped)
    found = near_duplicates(parts.train, [*parts.dev, *parts.test])
    _warn(found)
    kept, chosen_by, judged_by = _examples(parts, index, settings)
    judged_by = sampled(judged_by or chosen_by, settings.seed)
    if not judged_by:
        raise TrainingError(
            "The conversations held out for the verdict have no reply to compare with.",
            "Give others with --dev or --test (in Python: dev, test).",
        )
    kept, chosen_by, generation = _with_skills(parts, kept, chosen_by, generation, settings.seed)
    evidence = dict(Counter(_kind(example) for example in kept))
    logger.info("%d examples; their evidence: %s", len(kept), evidence)
    waiting = output.absolute().with_name(f"{output.name}.not-promoted")
    facts = {
        "base": base,
        "arch": arch,
        "data": data_hashes([*dialogues, *dev, *test]),
        "conversations": parts.sizes,
        "trained_on": sorted(map(conversation_hash, parts.train)),
        "evidence": evidence,
        "near_duplicates": [asdict(one) for one in found],
    }
    if arch == "ngram":
        report = None
        count_ngrams(kept, waiting, generation, facts)
    else:
        model, tokenizer = _base(base) if arch == "transformer" else new_model(arch, base, settings.seed)
        report = finetune(
            model,
            tokenizer,
            kept,
            chosen_by,
            waiting,
            settings=settings,
            generation=generation,
            facts=facts,
            scratch=output.absolute().with_name(f"{output.name}.training"),
            resume=resume,
        )
        del model
    if not is_first_process():
        return None
    known = None if arch != "transformer" or base == WARM_START else base
    verdict = _verdict(known, waiting, judged_by, chosen_on=not parts.test)
    add_verdict(waiting, verdict)
    promoted = force or not verdict.worse
    if promoted:
        move_checkpoint(waiting, output)
    return Run(output if promoted else waiting, promoted, verdict, report, evidence, tuple(found))


def read_dialogues(paths: Sequence[Path], skipped: list[Skipped] | None = None) -> list[Dialogue]:
    """Read the dialogues of files and folders, leaving topic documents aside.

    Each path on its own: two files may have the same name here, unlike in an index. Raises CorpusError when
    two paths have conversations of one id: evaluation and the checks for leaks go by it.
    """
    found: dict[str, tuple[Path, Dialogue]] = {}
    for path in dict.fromkeys(paths):
        for item in read_sources([path], skipped=skipped):
            if not isinstance(item, Dialogue):
                continue
            if other := found.get(item.id):
                raise CorpusError(
                    f"{other[0]} and {path} both have a conversation {item.id!r}.",
                    'Give each an id of its own: {"id": ..., "messages": ...}.',
                )
            found[item.id] = path, item
    return [dialogue for _, dialogue in found.values()]


def split(dialogues: Sequence[Dialogue], seed: int) -> Parts:
    """Split by conversation, seeded: a tenth each, at least one, to choose the checkpoint and to judge."""
    if len(dialogues) < 3:
        raise TrainingError(
            f"There are {len(dialogues)} conversations; at least 3 are needed: to train on, to choose "
            "the checkpoint by, and to judge.",
            "Give more dialogues.",
        )
    shuffled = list(dialogues)
    random.Random(seed).shuffle(shuffled)
    share = min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(shuffled))))
    return Parts(shuffled[2 * share :], shuffled[:share], shuffled[share : 2 * share])


def served_as(base: str) -> GenerationSettings:
    """The settings that a base model is served with."""
    known = (
        None
        if base == WARM_START
        else read_card(packaged_reader() if base == PACKAGED_READER else Path(base))
    )
    return known or GenerationSettings()


def _kind(example: Example) -> str:
    return str(example.evidence or "none named") if example.skill == "answer" else example.skill


def read_parts(
    dialogues: Sequence[Path],
    dev: Sequence[Path],
    test: Sequence[Path],
    seed: int,
    skipped: list[Skipped] | None,
) -> Parts:
    """Read the dialogues, and hold some out where none are given for that."""
    kept, chosen_by, judged_by = (
        _with_turns(read_dialogues(paths, skipped), skipped) for paths in (dialogues, dev, test)
    )
    if not chosen_by:
        parts = split(kept, seed)
        return replace(parts, test=judged_by) if judged_by else parts
    return Parts(kept, chosen_by, judged_by)


def _with_turns(dialogues: Sequence[Dialogue], skipped: list[Skipped] | None) -> list[Dialogue]:
    """The dialogues that teach something; the others are reported."""
    kept = [one for one in dialogues if any(turn_examples(one)) or any(rewrite_examples(one))]
    if skipped is not None:
        names = {one.id for one in kept}
        reason = "no reply in it follows a user's message"
        skipped += [Skipped(one.id, 0, reason) for one in dialogues if one.id not in names]
    return kept


def _warn(found: Sequence[NearDuplicate]) -> None:
    for one in found[:SHOWN]:
        logger.warning(
            "held-out %s is nearly in training: %.0f%% of it stands in %s",
            one.held_out, 100 * one.share, one.trained,
        )  # fmt: skip
    if found:
        logger.warning(
            "%d held-out conversations are nearly in training; they favour the tuned model", len(found)
        )


def _examples(
    parts: Parts, folder: Path | None, settings: TrainingSettings
) -> tuple[list[Example], list[Example], list[Example]]:
    if folder is None:
        train, dev, test = (
            [example for dialogue in part for example in turn_examples(dialogue)]
            for part in (parts.train, parts.dev, parts.test)
        )
        return train, dev, test
    with Index.open(folder) as index:
        refuse_leaks([*parts.dev, *parts.test], index)
        rng, k = random.Random(settings.seed), settings.passages
        train = gather(parts.train, index, k=k, gold_dropout=settings.gold_dropout, rng=rng)
        return train, as_served(parts.dev, index, k=k), as_served(parts.test, index, k=k)


def _with_skills(
    parts: Parts,
    train: Sequence[Example],
    dev: Sequence[Example],
    generation: GenerationSettings,
    seed: int,
) -> tuple[list[Example], list[Example], GenerationSettings]:
    """Add the examples of the other skills: rewriting where dialogues show it, judging where it is wanted."""
    rewrites = [example for dialogue in parts.train for example in rewrite_examples(dialogue)]
    dev_rewrites = [example for dialogue in parts.dev for example in rewrite_examples(dialogue)]
    judged = judgement_examples(train, random.Random(seed)) if "unanswerable" in generation.skills else []
    if rewrites and "rewrite" not in generation.skills:
        generation = replace(generation, skills=(*generation.skills, "rewrite"))
    return [*train, *rewrites, *judged], [*dev, *dev_rewrites], generation


def refuse_leaks(held_out: Sequence[Dialogue], index: Index) -> None:
    """Raise TrainingError when a held-out conversation could be retrieved."""
    leaked = [dialogue.id for dialogue in held_out if index.has_source(dialogue.id)]
    if leaked:
        raise TrainingError(
            f"{len(leaked)} held-out conversations are in the index, {leaked[0]!r} for one.",
            f"Take them out with: rag-chat index rm {index.path} {leaked[0]} ...",
        )


def _base(base: str) -> tuple[Any, Any]:
    if base == WARM_START:
        return warm_start(packaged_path())
    return load_seq2seq(base)


def _verdict(base: str | None, tuned: Path, examples: Sequence[Example], *, chosen_on: bool) -> Verdict:
    """Both models as they are served, on the same turns; what started from nothing has no base."""
    served = NgramGenerator(tuned) if (tuned / COUNTS).is_file() else Seq2SeqGenerator(tuned)
    return judge(
        None if base is None else answer_scores(Seq2SeqGenerator(base), examples),
        answer_scores(served, examples),
        [example.dialogue for example in examples],
        measure="token F1",
        chosen_on=chosen_on,
    )
