"""Fine-tune an encoder-decoder on examples, keeping the checkpoint that answers best on the dev set."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.errors import TrainingError, require
from rag_chat.evaluation.metrics import token_f1
from rag_chat.generation.checkpoint import check_replaceable, save_checkpoint
from rag_chat.training.examples import Example, model_input


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did: examples seen, seconds, device, and the curve of (step, dev F1)."""

    examples: int
    seconds: float
    device: str
    best_f1: float
    curve: tuple[tuple[int, float], ...]


def finetune(
    model: Any,
    tokenizer: Any,
    train: Sequence[Example],
    dev: Sequence[Example],
    output: Path,
    *,
    settings: TrainingSettings,
    generation: GenerationSettings,
    resume: bool = False,
) -> TrainingReport:
    """Train `model` in place and save the best checkpoint to `output`.

    Needs the extra `train`. Raises TrainingError when there is nothing to train on or the loss
    stops being a number, ModelError when `output` holds something that is not a model; `output` is
    written only at the end, so a failed run leaves it as it was. `resume` goes on from the last whole
    checkpoint in the folder `<output>.training`, which a run that ends well removes.
    """
    require("accelerate", "train")
    if not train or not dev:
        raise TrainingError(
            f"There are {len(train)} training and {len(dev)} dev examples; both are needed.",
            "Give more dialogues, or a larger share to the dev split.",
        )
    check_replaceable(output)
    import torch
    from transformers.utils import logging

    from rag_chat.training.trainer import ReaderTrainer, arguments

    logging.disable_progress_bar()
    if not torch.cuda.is_available():
        # Measured on two CPU cores: 25 against 14 examples/s, the fused kernel's backward being slow.
        model.set_attn_implementation("eager")
    _set_dropout(model, settings.dropout)
    output = output.absolute()
    scratch = output.with_name(f"{output.name}.training")
    last = _last_checkpoint(scratch) if resume else None
    if last is None:
        shutil.rmtree(scratch, ignore_errors=True)  # or a later run would go on from a stranger's
    trainer = ReaderTrainer(
        model=model,
        args=arguments(scratch, settings, generation),
        processing_class=tokenizer,
        train_dataset=_tokenise(train, tokenizer, generation, start=model.config.decoder_start_token_id),
        eval_dataset=_tokenise(dev, tokenizer, generation, start=model.config.decoder_start_token_id),
        compute_metrics=lambda outputs: _dev_scores(outputs, tokenizer),
        settings=settings,
    )
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    curve = tuple(
        (int(row["step"]), float(row["eval_f1"])) for row in trainer.state.log_history if "eval_f1" in row
    )
    report = TrainingReport(
        examples=trainer.state.global_step * settings.batch_size,
        seconds=time.monotonic() - started,
        device=str(model.device),
        best_f1=max((f1 for _, f1 in curve), default=0.0),
        curve=curve,
    )
    save_checkpoint(model.half() if settings.half else model, tokenizer, output, generation)
    (output / "training.json").write_text(
        json.dumps(
            {"settings": dataclasses.asdict(settings), "report": dataclasses.asdict(report)},
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return report


def _set_dropout(model: Any, share: float) -> None:
    """Set the dropout of a model that is already built: its config alone is no longer read.

    Attention weights are left alone, as in BART's own training: on a CPU, drawing that many random
    numbers took half of the time.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0 if "Attention" in type(module).__name__ else share


def _last_checkpoint(scratch: Path) -> Path | None:
    """The last checkpoint that was written to its end: the trainer's state comes last."""
    whole = [path.parent for path in scratch.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _tokenise(
    examples: Sequence[Example], tokenizer: Any, generation: GenerationSettings, *, start: int
) -> list[dict[str, list[int]]]:
    """Token ids of inputs and replies; a leading token that starts every decoding is nothing to say."""

    def count(text: str) -> int:
        return len(tokenizer(text, verbose=False).input_ids)

    inputs = [model_input(e, budget=generation.input_tokens, count_tokens=count) for e in examples]
    targets = tokenizer(
        text_target=[e.target for e in examples],
        truncation=True,
        max_length=generation.answer_tokens + 2,
    ).input_ids
    encoded = tokenizer(inputs, truncation=True, max_length=generation.input_tokens).input_ids
    return [
        {"input_ids": ids, "labels": said[1:] if said[:1] == [start] else said}
        for ids, said in zip(encoded, targets, strict=True)
    ]


def _dev_scores(outputs: Any, tokenizer: Any) -> dict[str, float]:
    """Mean token F1; the trainer groups dev examples by length, so both sides come from its outputs."""
    said, wanted = (
        tokenizer.batch_decode(np.where(ids < 0, tokenizer.pad_token_id, ids), skip_special_tokens=True)
        for ids in (outputs.predictions, outputs.label_ids)
    )
    return {"f1": float(np.mean([token_f1(a, b) for a, b in zip(said, wanted, strict=True)]))}
