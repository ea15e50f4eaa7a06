"""Fine-tune an encoder-decoder on examples, keeping the checkpoint that answers best on the dev set."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.errors import TrainingError, require
from rag_chat.generation.checkpoint import check_replaceable, save_checkpoint
from rag_chat.generation.copying import begin_copying
from rag_chat.training.examples import Example
from rag_chat.training.report import TrainingReport, write_report

if TYPE_CHECKING:
    from rag_chat.training.trainer import ReaderTrainer


def finetune(
    model: Any,
    tokenizer: Any,
    train: Sequence[Example],
    dev: Sequence[Example],
    output: Path,
    *,
    settings: TrainingSettings,
    generation: GenerationSettings,
    facts: Mapping[str, Any] | None = None,
    scratch: Path | None = None,
    resume: bool = False,
) -> TrainingReport:
    """Train `model` in place and save the best checkpoint to `output`, with its report and `facts`.

    Needs the extra `train`. Raises TrainingError when there is nothing to train on or the loss
    stops being a number, ModelError when `output` holds something that is not a model; `output` is
    written only at the end, so a failed run leaves it as it was. `resume` goes on from the last whole
    checkpoint in `scratch` (by default `<output>.training`), which a run that ends well removes. Under
    `torchrun` the processes share each step, and the first of them writes.
    """
    for package in ("accelerate", "matplotlib", *(["peft"] if settings.lora_rank else [])):
        require(package, "train")
    if not train or not dev:
        raise TrainingError(
            f"There are {len(train)} training and {len(dev)} dev examples; both are needed.",
            "Give more dialogues, or a larger share to the dev split.",
        )
    check_replaceable(output)
    from transformers.utils import logging

    logging.disable_progress_bar()
    output = output.absolute()
    scratch = scratch or output.with_name(f"{output.name}.training")
    last = _last_checkpoint(scratch) if resume else None
    if last is None and is_first_process():
        shutil.rmtree(scratch, ignore_errors=True)  # or a later run would go on from a stranger's
    _prepare(model, settings)
    if generation.copy:
        begin_copying(model, tokenizer.unk_token_id)
    trainer = _trainer(model, tokenizer, train, dev, scratch, settings=settings, generation=generation)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    report = _report(trainer, time.monotonic() - started, settings, resumed_at=_step(last) if last else 0)
    trainer.accelerator.wait_for_everyone()
    if is_first_process():
        best = trainer.model.merge_and_unload() if settings.lora_rank else trainer.model
        save_checkpoint(best.half() if settings.half else best, tokenizer, output, generation)
        write_report(output, {**(facts or {}), "settings": dataclasses.asdict(settings)}, report)
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return report


def world_size() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process is the one that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def _trainer(
    model: Any,
    tokenizer: Any,
    train: Sequence[Example],
    dev: Sequence[Example],
    scratch: Path,
    *,
    settings: TrainingSettings,
    generation: GenerationSettings,
) -> ReaderTrainer:
    from rag_chat.training.batches import tokenise
    from rag_chat.training.trainer import ReaderTrainer, arguments

    start = model.config.decoder_start_token_id
    trainer = ReaderTrainer(
        model=_with_lora(model, settings.lora_rank) if settings.lora_rank else model,
        tokenizer=tokenizer,
        args=arguments(scratch, settings, world_size()),
        train=tokenise(train, tokenizer, generation, start=start),
        dev=tokenise(dev, tokenizer, generation, start=start),
        settings=settings,
        generation=generation,
    )
    if trainer.args.world_size != world_size():
        raise TrainingError(
            f"{world_size()} processes were started and {trainer.args.world_size} found each other.",
            "Start them with: torchrun --nproc_per_node N --no-python rag-chat train ...",
        )
    return trainer


def _prepare(model: Any, settings: TrainingSettings) -> None:
    """Set what makes training fast and what keeps it from overfitting."""
    import torch

    if not torch.cuda.is_available():
        # Measured on two CPU cores: 25 against 14 examples/s, the fused kernel's backward being slow.
        model.set_attn_implementation("eager")
    _set_dropout(model, settings.dropout)


def _with_lora(model: Any, rank: int) -> Any:
    """The model with trainable low-rank updates beside every linear layer (Hu et al. 2021)."""
    from peft import LoraConfig, get_peft_model

    # alpha = 2 r and all linear layers: Dettmers et al. 2023, section 4
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear"
    )
    with warnings.catch_warnings():  # peft 0.21 asks for a name that transformers 5 is about to drop
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(model, config)


def _report(
    trainer: ReaderTrainer, seconds: float, settings: TrainingSettings, *, resumed_at: int
) -> TrainingReport:
    history = trainer.state.log_history
    curve, dev_losses, losses = (
        tuple((int(row["step"]), float(row[name])) for row in history if name in row)
        for name in ("eval_f1", "eval_loss", "loss")
    )
    best_step, best_f1 = max(curve, key=lambda point: point[1], default=(0, 0.0))
    steps = trainer.state.global_step
    weights = list(trainer.model.parameters())
    return TrainingReport(
        examples=steps * settings.batch_size,
        seconds=round(seconds, 1),
        examples_per_second=round((steps - resumed_at) * settings.batch_size / max(seconds, 1e-9), 2),
        device=device_name(trainer.model.device),
        processes=trainer.args.world_size,
        precision="bfloat16" if trainer.args.bf16 else "float32",
        parameters=sum(weight.numel() for weight in weights),
        trained_parameters=sum(weight.numel() for weight in weights if weight.requires_grad),
        best_f1=best_f1,
        best_step=best_step,
        curve=curve,
        dev_losses=dev_losses,
        losses=losses,
    )


def device_name(device: Any) -> str:
    """The device in words: its kind, and the GPU's own name."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


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
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
