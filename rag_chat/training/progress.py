"""What is seen of training while it runs, and what ends it early."""

from __future__ import annotations

import logging
import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from rag_chat.config import TrainingSettings

logger = logging.getLogger(__name__)


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
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


class Progress(TrainerCallback):  # type: ignore[misc]
    """Shows loss, dev F1, examples a second and the time left: a bar on a terminal, lines in the log."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        self._shown: dict[str, float] = {}
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._first, self._started = state.global_step, time.monotonic()
        hidden = None if state.is_world_process_zero else True  # None: only where there is no terminal
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", disable=hidden, dynamic_ncols=True
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if not state.is_world_process_zero or not ({"loss", "eval_f1"} & set(logs or {})):
            return
        self._shown |= {name: logs[name] for name in ("loss", "eval_loss", "eval_f1") if name in logs}
        rate, left = self._pace(state)
        said = ", ".join(f"{name.replace('eval', 'dev')} {value:.4g}" for name, value in self._shown.items())
        self._bar.set_postfix_str(f"{said}, {rate:.1f} examples/s")
        logger.info(
            "step %d of %d: %s, %.1f examples/s, %s left",
            state.global_step, state.max_steps, said, rate, _minutes(left),
        )  # fmt: skip

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._bar.close()

    def _pace(self, state: Any) -> tuple[float, float]:
        """Examples a second so far, evaluations included, and the seconds left at that pace."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        steps = (state.global_step - self._first) / elapsed
        left = (state.max_steps - state.global_step) / steps if steps else 0.0
        if self._settings.max_minutes:
            left = min(left, max(0.0, 60 * self._settings.max_minutes - elapsed))
        return steps * self._settings.batch_size, left


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
