"""The Hugging Face trainer with what a reader needs: two learning rates, a clock, a stop at NaN."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.data.data_collator import DataCollatorForSeq2Seq

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.errors import TrainingError

logger = logging.getLogger(__name__)


def arguments(
    scratch: Path, settings: TrainingSettings, generation: GenerationSettings
) -> Seq2SeqTrainingArguments:
    """Trainer arguments: bf16 where the hardware has it, batches grouped by length, best dev F1 kept."""
    return Seq2SeqTrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        label_smoothing_factor=settings.label_smoothing,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        bf16=has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        optim="adamw_torch_fused",
        eval_strategy="steps",
        eval_steps=settings.eval_every,
        save_strategy="steps",
        save_steps=settings.eval_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        greater_is_better=True,
        predict_with_generate=True,
        generation_max_length=generation.answer_tokens,
        logging_steps=20,
        logging_nan_inf_filter=False,  # it would hide from StopAtNaN what it looks for
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to=[],
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def has_bf16() -> bool:
    """Whether this machine multiplies in bfloat16; emulated, it takes five times as long as float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class ReaderTrainer(Seq2SeqTrainer):  # type: ignore[misc]  # transformers ships no types
    """A Seq2SeqTrainer that pads by batch and can train untrained cross-attention faster."""

    optimizer: Any

    def __init__(self, *, settings: TrainingSettings, **options: Any) -> None:
        tokenizer, model = options["processing_class"], options["model"]
        options["data_collator"] = DataCollatorForSeq2Seq(tokenizer, model=model)
        options["callbacks"] = [Clock(settings.max_minutes), StopAtNaN(), Progress()]
        super().__init__(**options)
        self.remove_callback(PrinterCallback)
        self._cross_learning_rate = settings.cross_learning_rate

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None and self._cross_learning_rate is not None:
            named = list((model or self.model).named_parameters())
            cross = [p for name, p in named if "encoder_attn." in name]
            rest = [p for name, p in named if "encoder_attn." not in name]
            groups = [
                {"params": rest, "lr": self.args.learning_rate},
                {"params": cross, "lr": self._cross_learning_rate},
            ]
            self.optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
        return super().create_optimizer(model)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Ends training after so many minutes (0: never), after one last evaluation."""

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self._started = time.monotonic()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
        if self._minutes and time.monotonic() - self._started > 60 * self._minutes:
            control.should_evaluate = control.should_save = control.should_training_stop = True
        return control


class StopAtNaN(TrainerCallback):  # type: ignore[misc]
    """Raises TrainingError as soon as a logged loss is not finite."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        for name in ("loss", "train_loss", "eval_loss"):
            loss = (logs or {}).get(name, 0.0)
            if not math.isfinite(float(loss)):
                raise TrainingError(
                    f"The loss became {loss} at step {state.global_step}.",
                    "Lower --learning-rate, or look for broken dialogues near that step.",
                )


class Progress(TrainerCallback):  # type: ignore[misc]
    """Tells the log how far training is."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        said = ", ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        logger.info("step %d of %d: %s", state.global_step, state.max_steps, said)
