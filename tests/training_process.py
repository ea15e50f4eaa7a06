"""Trains a tiny model in a process of its own: OUTPUT [--resume] [--die-at STEP] [--dropout P]."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import models

from rag_chat.config import TrainingSettings
from rag_chat.training.finetune import finetune
from rag_chat.training.progress import Clock
from rag_chat.training.report import TrainingReport

SETTINGS = TrainingSettings(epochs=3, batch_size=4, learning_rate=1e-2, warmup_steps=2, eval_every=3)
EXAMPLES = [replace(one, dialogue=str(i)) for i, one in enumerate([*models.PAIRS, models.PAIRS[0]] * 8)]


def train(output: Path, *, resume: bool = False, accumulate: int = 1, dropout: float = 0.0) -> TrainingReport:
    tokenizer = models.wordpiece()
    return finetune(
        models.bart(tokenizer),
        tokenizer,
        EXAMPLES,
        models.PAIRS,
        output,
        settings=replace(SETTINGS, accumulate=accumulate, dropout=dropout),
        generation=models.SHORT,
        resume=resume,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--dropout", type=float, default=0.0)
    given = parser.parse_args()

    def die(_: Clock, __: Any, state: Any, control: Any, **___: Any) -> Any:
        if state.global_step == given.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return control

    Clock.on_step_end = die  # type: ignore[method-assign]
    train(given.output, resume=given.resume, dropout=given.dropout)


if __name__ == "__main__":
    main()
