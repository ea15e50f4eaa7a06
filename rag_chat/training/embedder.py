"""Fine-tune the embedder on dialogues: a question comes nearer to its evidence than to what looks like it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rag_chat.config import PACKAGED_EMBEDDER, TrainingSettings
from rag_chat.conversation.query import stand_alone
from rag_chat.errors import TrainingError, require
from rag_chat.generation.checkpoint import check_replaceable, move_checkpoint
from rag_chat.index.packaged import packaged_path
from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder
from rag_chat.retrieval.index import Index
from rag_chat.training.evidence import best_of, gold_sources
from rag_chat.training.examples import Example, turn_examples
from rag_chat.training.finetune import device_name
from rag_chat.training.report import Run, TrainingReport, data_hashes, write_report
from rag_chat.training.run import read_parts, refuse_leaks
from rag_chat.training.verdict import judge
from rag_chat.types import Dialogue, Embedder, Passage, Skipped

LEARNING_RATE = 2e-5
DEPTH = 30  # how far down the ranking negatives are looked for
TOO_CLOSE = 0.95
"""Of the positive's cosine; what is closer may well be an answer, too (Moreira et al. 2024)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Triple:
    """A question as it is searched for, the passage that answers it, and one that only seems to."""

    query: str
    positive: str
    negative: str


def train_embedder(
    dialogues: Sequence[Path],
    output: Path,
    *,
    index: Path,
    dev: Sequence[Path] = (),
    settings: TrainingSettings | None = None,
    force: bool = False,
    skipped: list[Skipped] | None = None,
) -> Run:
    """Fine-tune the embedder of an index on dialogues that name their sources; write it to `output`.

    Accepted only when recall on held-out conversations rises beyond chance (95% paired interval above
    0), unless forced; otherwise it stays in `<output>.not-promoted`. Use it with `index build --embedder
    OUTPUT`. Raises TrainingError when no turn names a source that the index has, or the embedder is not
    one that can be trained.
    """
    require("matplotlib", "train")
    settings = settings or TrainingSettings(learning_rate=LEARNING_RATE)
    check_replaceable(output)
    parts = read_parts(dialogues, dev, (), settings.seed, skipped)
    with Index.open(index) as opened:
        held_out = [*parts.dev, *parts.test]
        refuse_leaks(held_out, opened)
        place, base = _place(opened.embedder), opened.embedder.identity.name
        triples = mine(parts.train, opened, random.Random(settings.seed))
        passages = list(opened.passages())
        asked = [(_query(e), gold_sources(e, opened), e.dialogue) for d in held_out for e in turn_examples(d)]
    asked = [one for one in asked if one[1]]
    if not triples or not asked:
        raise TrainingError(
            f"{len(triples)} training and {len(asked)} held-out turns name a source that the index has; "
            "both are needed.",
            'Name the evidence of replies: "sources": ["food/rice.md"].',
        )
    waiting = output.absolute().with_name(f"{output.name}.not-promoted")
    report = _fit(place, triples, waiting, settings)
    k = settings.passages
    before, after = (
        _found(SentenceTransformerEmbedder(model), passages, asked, k) for model in (place, waiting)
    )
    names = [dialogue for _, _, dialogue in asked]
    verdict = judge(before, after, names, measure=f"dense recall@{k}", chosen_on=False)
    facts = {
        "base": base,
        "data": data_hashes([*dialogues, *dev]),
        "conversations": parts.sizes,
        "settings": asdict(settings),
        "verdict": asdict(verdict),
    }
    write_report(waiting, facts, report)
    promoted = force or verdict.better
    if promoted:
        move_checkpoint(waiting, output)
    return Run(output if promoted else waiting, promoted, verdict, report, {"triples": len(triples)}, ())


def mine(dialogues: Sequence[Dialogue], index: Index, rng: random.Random) -> list[Triple]:
    """Pair each turn that names its sources with its passage and a hard negative from the index.

    Negatives are what dense search ranks high though no source of the turn, nor a conversation; those
    nearly as close as the passage itself are left out, as they may answer, too. Where all are as close,
    the farthest of them is taken.
    """
    stored: dict[str, list[Passage]] = {}
    for passage in index.passages():
        stored.setdefault(passage.source, []).append(passage)
    examples = [example for dialogue in dialogues for example in turn_examples(dialogue)]
    grounded = [(example, gold) for example in examples if (gold := gold_sources(example, index))]
    queries = [_query(example) for example, _ in grounded]
    ranked = index.search_many(queries, DEPTH, mode="dense") if queries else []
    triples = []
    for query, (example, gold), hits in zip(queries, grounded, ranked, strict=True):
        positive = best_of([passage for source in gold for passage in stored[source]], example.target)
        q, p = index.embedder.embed([query], query=True), index.embedder.embed([positive.search_text])
        bound = TOO_CLOSE * float((q @ p.T)[0, 0])
        others = [hit for hit in hits if hit.passage.source not in gold and hit.passage.kind == "topic"]
        hard = [hit for hit in others if hit.score < bound][: DEPTH // 3] or others[-1:]
        if hard:
            triples.append(Triple(query, positive.search_text, rng.choice(hard).passage.search_text))
    return triples


def _query(example: Example) -> str:
    return stand_alone(example.turn.question, example.turn.history)


def _place(embedder: Embedder) -> Path:
    if embedder.identity.name == PACKAGED_EMBEDDER:
        return packaged_path()
    place = Path(str(getattr(embedder, "reference", "")))
    if not (place / "modules.json").is_file():
        raise TrainingError(
            f"The embedder {embedder.identity.name} is not a folder of sentence-transformers.",
            "Build the index with one: rag-chat index build SRC... -o DIR --embedder FOLDER",
        )
    return place


def _fit(place: Path, triples: Sequence[Triple], folder: Path, settings: TrainingSettings) -> TrainingReport:
    """Contrastive learning with the other passages of the batch as negatives, too (Henderson et al. 2017)."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers.utils import logging as logging_of_transformers

    logging_of_transformers.disable_progress_bar()
    torch.manual_seed(settings.seed)
    model = SentenceTransformer(str(place))
    loss_of = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    batches = list(_batches(triples, settings))
    warmup = max(1, min(settings.warmup_steps, len(batches) // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, (len(batches) - step) / max(1, len(batches) - warmup)),
    )
    started, losses = time.monotonic(), list[tuple[int, float]]()
    model.train()
    for step, batch in enumerate(batches, 1):
        loss = loss_of(_columns(model, batch), None)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"The loss became {loss.item()} at step {step}.", "Lower the rate: --set learning_rate=..."
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append((step, loss.item()))
        if step % 20 == 0 or step == len(batches):
            pace = step * settings.batch_size / (time.monotonic() - started)
            logger.info("step %d of %d: loss %.4f, %.1f examples/s", step, len(batches), loss.item(), pace)
    model.eval()
    model.save(str(folder))
    seconds, seen = time.monotonic() - started, settings.batch_size * len(batches)
    weights = sum(weight.numel() for weight in model.parameters())
    return TrainingReport(
        examples=seen,
        seconds=round(seconds, 1),
        examples_per_second=round(seen / max(seconds, 1e-9), 2),
        device=device_name(model.device),
        processes=1,
        precision="float32",
        parameters=weights,
        trained_parameters=weights,
        losses=tuple(losses),
    )


def _columns(model: Any, batch: Sequence[Triple]) -> list[dict[str, Any]]:
    """Token ids of queries, positives and negatives, each with its prefix, on the model's device."""
    from sentence_transformers.util import batch_to_device

    prompts = model.prompts
    document = prompts.get("document") or prompts.get("passage")
    return [
        batch_to_device(model.preprocess(texts, prompt=prompt), model.device)
        for texts, prompt in (
            ([one.query for one in batch], prompts.get("query")),
            ([one.positive for one in batch], document),
            ([one.negative for one in batch], document),
        )
    ]


def _batches(triples: Sequence[Triple], settings: TrainingSettings) -> Iterator[list[Triple]]:
    rng = random.Random(settings.seed)
    for _ in range(max(1, round(settings.epochs))):
        order = rng.sample(list(triples), len(triples))
        for start in range(0, len(order), settings.batch_size):
            if len(batch := order[start : start + settings.batch_size]) > 1 or len(order) == 1:
                yield batch


def _found(
    embedder: Embedder, passages: Sequence[Passage], asked: Sequence[tuple[str, list[str], str]], k: int
) -> list[float]:
    """Whether the evidence is among the k passages nearest to each question: 1.0 or 0.0."""
    stored = embedder.embed([passage.search_text for passage in passages])
    queries = embedder.embed([query for query, _, _ in asked], query=True)
    best = np.argsort(-queries @ stored.T, axis=1, kind="stable")[:, :k]
    sources = np.array([passage.source for passage in passages])
    return [float(bool(set(sources[row]) & set(gold))) for row, (_, gold, _) in zip(best, asked, strict=True)]
