"""Answer turns with any encoder-decoder that `AutoModelForSeq2SeqLM` loads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings, Skill
from rag_chat.errors import ModelError
from rag_chat.generation.checkpoint import read_card
from rag_chat.generation.decoding import Decoded, Decoder, Limits, OnStep, TorchDecoder
from rag_chat.generation.fusion import as_one, readings, stack
from rag_chat.generation.onnx_decoder import fast_decoder
from rag_chat.generation.pieces import Pieces, SurfacePieces, WordPieces, written
from rag_chat.generation.prompt import UNANSWERABLE
from rag_chat.generation.surface import Surface
from rag_chat.types import Generated, Prompt, Turn

PACKAGED_READER = "reader"
"""The name of the model that ships with the library."""

BATCH_SIZE = 16


def packaged_reader() -> Path:
    """The folder of the model that ships with the library."""
    return Path(__file__).parent.parent / "models" / PACKAGED_READER


class Seq2SeqGenerator:
    """A sequence-to-sequence reader: packed turn in, answer out.

    model: a folder, a model name, or "reader" for the packaged one. device: as torch names it; by
    default CUDA in bfloat16, else Apple's MPS, else the CPU, both in float32 (T5 overflows in float16).
    fast: on the CPU a greedy BART model, as the packaged one, is run by ONNX Runtime, in float32 too, where
    the extra `fast` is installed (benchmarks/generation.py measures it).
    Raises ModelError when the model cannot be loaded or was trained on another prompt version.
    """

    def __init__(
        self,
        model: str | Path = PACKAGED_READER,
        *,
        device: str | None = None,
        settings: GenerationSettings | None = None,
        fast: bool = True,
    ) -> None:
        import torch

        self.name = str(model)
        trained_with = read_card(checkpoint_folder(self.name))
        self.settings = settings or trained_with or GenerationSettings()
        self.device = device or _best_device()
        dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        loaded, self._tokenizer = load_seq2seq(self.name, dtype)
        try:
            loaded.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:  # torch raises either for a device it lacks
            raise ModelError(
                f"The device {self.device!r} cannot be used: {error}", "See what there is: rag-chat doctor"
            ) from error
        self._config = loaded.config
        quick = fast_decoder(loaded) if fast and self.device == "cpu" and self.settings.beams == 1 else None
        self._decoder: Decoder = quick or TorchDecoder(loaded)
        self._lock = threading.Lock()  # fast tokenizers keep padding as state ("Already borrowed")

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        """Answer each turn, in order; batches hold turns of like length."""
        return self._say(turns, "answer")

    def rewrite(self, turns: Sequence[Turn]) -> list[str]:
        """Say each turn's question so that it stands alone; for a model with that skill in its settings.

        A question that the model has nothing to say to is returned as it is.
        """
        return [
            said.text or turn.question for said, turn in zip(self._say(turns, "rewrite"), turns, strict=True)
        ]

    def unanswerable(self, turns: Sequence[Turn]) -> list[bool]:
        """Whether each turn's passages leave it unanswered; for a model with that skill in its settings."""
        return [said.text == UNANSWERABLE for said in self._say(turns, "unanswerable")]

    def _say(self, turns: Sequence[Turn], skill: Skill) -> list[Generated]:
        packed = [self._readings(turn, skill) for turn in turns]
        by_length = sorted(range(len(turns)), key=lambda i: max(len(prompt.text) for prompt in packed[i]))
        answers: dict[int, Generated] = {}
        for start in range(0, len(turns), BATCH_SIZE):
            batch = by_length[start : start + BATCH_SIZE]
            for i, said in zip(batch, self._decode([packed[i] for i in batch]), strict=True):
                answers[i] = self._generated(turns[i], said, packed[i])
        return [answers[i] for i in range(len(turns))]

    def stream(self, turn: Turn) -> Iterator[str]:
        """Yield the answer as it is generated; closing the iterator stops the generation."""
        with closing(self.stream_many([turn], lambda _: True)) as said:
            yield from (piece for _, piece in said if isinstance(piece, str))

    def stream_many(
        self, turns: Sequence[Turn], wanted: Callable[[int], bool]
    ) -> Generator[tuple[int, str | Generated], None, None]:
        """Yield pieces of all answers, decoded as one batch, and each answer whole in the end.

        A turn that is no longer wanted is given up within a step; closing the iterator stops all.
        """
        packed = [self._readings(turn) for turn in turns]
        pieces = [self._pieces(turn) for turn in turns]
        with closing(self._steps(packed, wanted)) as steps:
            for said in steps:
                for row, ids in enumerate(said):
                    if isinstance(ids, Decoded):
                        yield from ((row, piece) for piece in pieces[row].rest(self._text(ids.ids)))
                        yield row, self._generated(turns[row], ids, packed[row])
                    else:
                        yield from ((row, piece) for piece in pieces[row].more(self._text(ids)))

    def prompt(self, turn: Turn) -> Prompt:
        """The model input for a turn, within this model's budget."""
        return as_one(self._readings(turn))

    def _readings(self, turn: Turn, skill: Skill = "answer") -> tuple[Prompt, ...]:
        budget = self._at_most(self.settings.input_tokens)
        fuse = self.settings.fuse
        return readings(turn, fuse=fuse, budget=budget, count_tokens=self._count, skill=skill)

    def _at_most(self, tokens: int) -> int:
        """So many tokens, or as many as the model has places for; T5's relative places have no end."""
        places = getattr(self._config, "max_position_embeddings", None)
        return min(tokens, places) if places else tokens

    def _count(self, text: str) -> int:
        return len(self._encode(text))

    def _encode(self, text: str, *, special: bool = True) -> list[int]:
        with self._lock:
            ids: list[int] = self._tokenizer(text, verbose=False, add_special_tokens=special).input_ids
        return ids

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _decode(self, packed: Sequence[Sequence[Prompt]], on_step: OnStep | None = None) -> list[Decoded]:
        """Answer packed turns; a stream is greedy, since beams settle nothing before their end."""
        turns = [[self._encode(prompt.text) for prompt in prompts] for prompts in packed]
        ids, mask = stack(turns, pad=self._tokenizer.pad_token_id)
        limits = replace(self._limits, beams=1) if on_step else self._limits
        try:
            return self._decoder.decode(ids, mask, limits, on_step)
        except RuntimeError as error:  # out of memory, above all
            raise ModelError(
                f"{self.name} failed while answering: {error}", "Try another model with -m."
            ) from error

    @property
    def _limits(self) -> Limits:
        bias = self.settings.abstain_bias
        return Limits(
            tokens=self._at_most(self.settings.answer_tokens),
            beams=self.settings.beams,
            bias=(self._encode(UNANSWERABLE, special=False)[0], bias) if bias else None,
            copy=self._tokenizer.unk_token_id if self.settings.copy else None,
        )

    def _generated(self, turn: Turn, said: Decoded, packed: Sequence[Prompt]) -> Generated:
        text = self._text(said.ids)
        return Generated(
            text="".join(written(self._surface(turn), text)) if self._uncased else text,
            log_likelihood=said.log_likelihood,
            attention=said.attention if len(packed) == len(turn.passages) else (),
            prompt=as_one(packed),
            abstaining=said.biased,
        )

    def _steps(
        self, packed: Sequence[Sequence[Prompt]], wanted: Callable[[int], bool]
    ) -> Generator[Sequence[list[int] | Decoded], None, None]:
        """Yield the ids said so far to each turn, the latest there are, and in the end what was decoded."""
        said, left = queue.SimpleQueue[Sequence[list[int] | Decoded] | BaseException](), threading.Event()

        def step(ids: list[list[int]]) -> list[bool]:
            said.put(ids)
            return [left.is_set() or not wanted(row) for row in range(len(packed))]

        def work() -> None:
            try:
                said.put(self._decode(packed, step))
            except BaseException as error:  # handed to the reader of the stream below
                said.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            decoded = False
            while not decoded:
                latest = said.get()
                while not said.empty():  # who listens is slower than the model
                    latest = said.get()
                if isinstance(latest, BaseException):
                    raise latest
                decoded = isinstance(latest[0], Decoded)
                yield latest
        finally:
            left.set()
            worker.join()

    def _pieces(self, turn: Turn) -> Pieces:
        return SurfacePieces(self._surface(turn)) if self._uncased else WordPieces()

    def _surface(self, turn: Turn) -> Surface:
        texts = [text for p in turn.passages for text in (p.text, p.context, p.title)]
        said = [turn.question, *(message.content for message in turn.history)]
        return Surface([*texts, *said], self._is_common)

    def _is_common(self, word: str) -> bool:
        return word in self._vocabulary

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        return frozenset(self._tokenizer.get_vocab())

    @cached_property
    def _uncased(self) -> bool:
        return self._text(self._encode("Paris", special=False)) == "paris"


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a model by its name; it need not exist."""
    return packaged_reader() if str(name) == PACKAGED_READER else Path(name)


def load_seq2seq(name: str, dtype: Any = None) -> tuple[Any, Any]:
    """Return (model, tokenizer) for a name or folder, float32 unless a dtype is given.

    Raises ModelError when it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    from rag_chat.generation import classic

    logging.disable_progress_bar()
    classic.register()
    place = checkpoint_folder(name)
    # "reader" is never looked up on the hub: whoever registered that name there is a stranger
    model = str(place) if place.exists() or name == PACKAGED_READER else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        return AutoModelForSeq2SeqLM.from_pretrained(model, dtype=dtype or torch.float32), tokenizer
    except Exception as error:  # OSError, ValueError, SafetensorError, ImportError, by what is wrong
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(
            f"The model {name!r} could not be loaded: {reason}",
            "Give a folder, a name that `rag-chat models list` shows, or -m extractive.",
        ) from error
