"""The Hugging Face trainer with what a reader needs: a dev score, two learning rates, a stop at NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)
from transformers.modeling_outputs import BaseModelOutput

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.errors import TrainingError, UsageError
from rag_chat.evaluation.metrics import token_f1
from rag_chat.generation.copying import copying
from rag_chat.generation.decoding import NO_REPEAT
from rag_chat.generation.fusion import fuse
from rag_chat.training.batches import IGNORED, Collator, LengthGrouped, Row, cost
from rag_chat.training.progress import Clock, Progress


def arguments(scratch: Path, settings: TrainingSettings, processes: int = 1) -> Seq2SeqTrainingArguments:
    """Trainer arguments: bf16 where the hardware has it, the checkpoint with the best dev F1 kept."""
    return Seq2SeqTrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=_share(settings, processes),
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        lr_scheduler_type="linear",
        bf16=has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        ddp_backend=None if torch.cuda.is_available() or processes == 1 else "gloo",
        optim="adamw_torch_fused",
        eval_strategy="steps",
        eval_steps=settings.eval_every,
        save_strategy="steps",
        save_steps=settings.eval_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        greater_is_better=True,
        logging_steps=min(20, settings.eval_every),
        disable_tqdm=True,
        seed=settings.seed,
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _share(settings: TrainingSettings, processes: int) -> int:
    """Examples that one process reads at a time; a step is `batch_size` of them, whoever reads them."""
    share, rest = divmod(settings.batch_size, processes * settings.accumulate)
    if rest or not share:
        raise UsageError(
            f"batch_size {settings.batch_size} cannot be shared evenly by {processes} processes "
            f"in {settings.accumulate} parts.",
            f"Give a multiple of {processes * settings.accumulate}: --set batch_size=...",
        )
    return share


def has_bf16() -> bool:
    """Whether this machine multiplies in bfloat16; emulated, it takes five times as long as float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class ReaderTrainer(Seq2SeqTrainer):  # type: ignore[misc]  # transformers ships no types
    """Trains on rows of like length and scores dev rows by the token F1 of generated replies."""

    optimizer: Any
    control: Any

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        args: Seq2SeqTrainingArguments,
        train: Sequence[Row],
        dev: Sequence[Row],
        settings: TrainingSettings,
        generation: GenerationSettings,
    ) -> None:
        patience = [EarlyStoppingCallback(settings.patience)] if settings.patience else []
        super().__init__(
            model=model,
            args=args,
            processing_class=tokenizer,
            train_dataset=train,
            eval_dataset=dev,
            data_collator=Collator(tokenizer.pad_token_id, model.config.decoder_start_token_id),
            compute_loss_func=self._loss,
            callbacks=[Clock(settings.max_minutes), Progress(settings), *patience],
        )
        self.remove_callback(PrinterCallback)
        self._settings = settings
        self._generation = generation

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return LengthGrouped([cost(row) for row in rows], self._settings.batch_size, self._settings.seed)

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None and self._settings.cross_learning_rate is not None:
            named = [(name, p) for name, p in (model or self.model).named_parameters() if p.requires_grad]
            groups: list[dict[str, Any]] = [
                {"params": [p for name, p in named if "encoder_attn." not in name]},
                {
                    "params": [p for name, p in named if "encoder_attn." in name],
                    "lr": self._settings.cross_learning_rate,
                },
            ]
            self.optimizer = torch.optim.AdamW(
                groups, lr=self.args.learning_rate, weight_decay=0.01, fused=True
            )
        return super().create_optimizer(model)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        """One backward pass; raises TrainingError before a loss that is no number reaches the weights."""
        loss: torch.Tensor = super().training_step(*given, **named)
        self._check(float(loss))
        return loss

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss} at step {self.state.global_step}.",
                "Lower the rate: --set learning_rate=..., or look for broken dialogues near that step.",
            )

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        """The loss of a batch whose passages are read as they will be in service."""
        with self.accelerator.autocast():
            encoded = self._encoded(inputs)
        said = {name: inputs[name] for name in ("labels", "decoder_input_ids")}
        with self._copying(inputs):
            return super().compute_loss(model, {**encoded, **said}, *given, **named)

    def _encoded(self, batch: Any) -> dict[str, Any]:
        """What the decoder attends over, in place of input_ids (batch, passages, tokens)."""
        encoder = self.accelerator.unwrap_model(self.model).get_encoder()
        states, mask = fuse(
            lambda ids, mask: encoder(input_ids=ids, attention_mask=mask).last_hidden_state,
            batch["input_ids"],
            batch["attention_mask"],
        )
        return {"encoder_outputs": BaseModelOutput(states), "attention_mask": mask}

    def _copying(self, batch: Any) -> AbstractContextManager[None]:
        token = self.processing_class.unk_token_id if self._generation.copy else None
        return copying(self.accelerator.unwrap_model(self.model), batch["input_ids"].flatten(1), token)

    def _loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Cross-entropy per token of the whole step, whichever part of it this is."""
        total = cross_entropy(
            outputs["logits"].flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self._settings.label_smoothing,
        )
        return total / (labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss and token F1 of the dev rows, each process scoring its share of them."""
        from accelerate.utils import gather_object

        model = self.accelerator.unwrap_model(self.model).eval()
        by_length = sorted(self.eval_dataset, key=cost)
        mine = by_length[self.args.process_index :: self.args.world_size]
        size = self.args.per_device_train_batch_size
        scored = [self._scores(model, mine[start : start + size]) for start in range(0, len(mine), size)]
        losses, tokens, f1 = np.array(gather_object([row for batch in scored for row in batch])).T
        metrics = {"eval_loss": float(np.average(losses, weights=tokens)), "eval_f1": float(f1.mean())}
        self._check(metrics["eval_loss"])
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _scores(self, model: Any, rows: Sequence[Row]) -> list[tuple[float, int, float]]:
        """For each row the loss a token of its batch, its tokens, and the token F1 of the reply."""
        batch = self._prepare_inputs(self.data_collator(rows))
        with self.accelerator.autocast():
            loss = float(self.compute_loss(model, batch))
        with self.accelerator.autocast(), self._copying(batch):
            said = model.generate(
                **self._encoded(batch),
                max_new_tokens=self._generation.answer_tokens,
                do_sample=False,
                num_beams=1,
                no_repeat_ngram_size=NO_REPEAT,
            )
        answers, wanted = (
            self.processing_class.batch_decode(ids, skip_special_tokens=True)
            for ids in (said, [row["labels"] for row in rows])
        )
        return [
            (loss, len(row["labels"]), token_f1(a, b))
            for row, a, b in zip(rows, answers, wanted, strict=True)
        ]
