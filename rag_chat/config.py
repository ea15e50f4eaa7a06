"""Settings with their units; unknown names, and values of another type, are refused."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from math import inf
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rag_chat.errors import UsageError
from rag_chat.types import Precision

IndexType = Literal["auto", "flat", "hnsw", "ivf", "ivfpq"]
SearchMode = Literal["hybrid", "dense", "lexical"]
Fuse = Literal["concat", "decoder"]
Skill = Literal["answer", "rewrite", "unanswerable"]

PACKAGED_EMBEDDER = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """How documents become passages and vectors.

    `chunk_tokens` and `overlap` count tokens of the embedder; a passage is at most `chunk_tokens` long.
    `recall` is the share of the ten nearest that an approximate index must find. `embed_precision` trades
    the vectors' exactness for speed: see docs/performance.md.
    """

    embedder: str = PACKAGED_EMBEDDER
    chunk_tokens: int = 128
    overlap: int = 16
    index_type: IndexType = "auto"
    recall: float = 0.95
    embed_precision: Precision = "fp32"

    def __post_init__(self) -> None:
        _check(self)
        if not 0 <= self.overlap <= self.chunk_tokens // 2:
            raise UsageError(
                f"overlap must lie between 0 and half of chunk_tokens, not {self.overlap}.",
                f"Try {self.chunk_tokens // 8}.",
            )
        if not 0.5 <= self.recall <= 1.0:
            raise UsageError(f"recall must lie between 0.5 and 1, not {self.recall}.", "Try 0.95.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How a turn is put to the model. Both budgets count tokens of the model.

    `abstain_bias` is added to the log-odds of abstaining: below 0 the model answers more often. `fuse`
    puts the passages into one input ("concat"), or reads each in an input of its own, of up to
    `input_tokens` each, and lets the decoder attend over all ("decoder"). `skills` are what the model
    was trained for (see `generation.prompt.pack`). With `copy` the model takes words from what it reads
    (see `generation.copying`), for which it has to be trained.
    """

    input_tokens: int = 384
    answer_tokens: int = 64
    beams: int = 1
    abstain_bias: float = 0.0
    fuse: Fuse = "concat"
    skills: tuple[Skill, ...] = ("answer",)
    copy: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.skills, list):  # as JSON has them
            object.__setattr__(self, "skills", tuple(self.skills))
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How the generator is fine-tuned.

    `batch_size` counts the examples of one step, over all processes and `accumulate` parts of it.
    `learning_rate` is the peak; cross-attention that starts untrained takes `cross_learning_rate`.
    `lora_rank` trains low-rank updates of that rank instead of all weights (0: all weights).
    `gold_dropout` is the share of grounded turns trained without their evidence, as abstentions.
    Training ends early after `max_minutes`, or when the dev score has not risen for `patience`
    evaluations (0: no limit); the best checkpoint is kept. `half` stores the weights in 16 bit, which
    halves the file.
    """

    epochs: float = 3.0
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1.5e-4
    cross_learning_rate: float | None = None
    warmup_steps: int = 100
    dropout: float = 0.1
    label_smoothing: float = 0.0
    lora_rank: int = 0
    gold_dropout: float = 0.1
    passages: int = 5
    eval_every: int = 200
    max_minutes: float = 0.0
    patience: int = 8
    half: bool = False
    seed: int = 13

    def __post_init__(self) -> None:
        _check(self)


_RANGES = {
    "chunk_tokens": (8, inf),
    "input_tokens": (8, inf),
    "answer_tokens": (1, inf),
    "beams": (1, inf),
    "epochs": (0.01, inf),
    "batch_size": (1, inf),
    "accumulate": (1, inf),
    "learning_rate": (0, inf),
    "cross_learning_rate": (0, inf),
    "warmup_steps": (0, inf),
    "dropout": (0, 1),
    "label_smoothing": (0, 1),
    "lora_rank": (0, inf),
    "gold_dropout": (0, 1),
    "passages": (1, inf),
    "eval_every": (1, inf),
    "max_minutes": (0, inf),
    "patience": (0, inf),
    "seed": (0, 2**32),  # NumPy takes no other
}
"""What a setting must at least be, and be less than."""


Settings = TypeVar("Settings", IndexSettings, GenerationSettings, TrainingSettings)


def from_mapping(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build settings from a mapping, refusing unknown names with the nearest known one.

    Values may be text, as a command line gives them: they are read as JSON where they are JSON.
    """
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known settings: {', '.join(known)}."
            raise UsageError(f"Unknown setting {name!r}.", hint)
    return kind(**{name: _read(value) for name, value in values.items()})


def _read(value: Any) -> Any:
    """The value that a text stands for: 3, 1e-4, true, or the text itself."""
    with contextlib.suppress(ValueError, TypeError):
        return json.loads(value)
    return value


def _check(settings: IndexSettings | GenerationSettings | TrainingSettings) -> None:
    """Refuse a value that is not of its field's type, or out of its range."""
    own: Any = type(settings)  # mypy takes the class of a dataclass for unhashable
    for field in fields(settings):
        value, kind = getattr(settings, field.name), _types(own)[field.name]
        if not _fits(value, kind):
            raise UsageError(f"{field.name} cannot be {value!r}.", f"Give {_described(kind)}.")
        if field.name not in _RANGES or value is None:
            continue
        least, bound = _RANGES[field.name]
        if not least <= value < bound:
            less = f" and less than {bound}" if bound < inf else ""
            usual = f"Try {field.default}." if field.default is not None else "Leave it out."
            raise UsageError(f"{field.name} must be at least {least}{less}, not {value}.", usual)


@cache  # an index reads its settings at every search
def _types(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a float too, and a list a tuple."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return value in inner
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if inner:
        return any(_fits(value, one) for one in inner)
    if isinstance(value, bool):  # which is an int to Python
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _described(kind: Any) -> str:
    """An annotated type in words."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of: {', '.join(map(str, inner))}"
    if get_origin(kind) is tuple:
        return f"a list, of {_described(inner[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words[next((one for one in inner if one in words), kind)]
