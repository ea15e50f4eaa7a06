"""Answer turns with any encoder-decoder that `AutoModelForSeq2SeqLM` loads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings
from rag_chat.errors import ModelError
from rag_chat.generation.checkpoint import read_card
from rag_chat.generation.prompt import Packed, pack
from rag_chat.generation.surface import LOOKAHEAD, Surface
from rag_chat.types import Generation, Turn

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
    Raises ModelError when the model cannot be loaded or was trained on another prompt version.
    """

    def __init__(
        self,
        model: str | Path = PACKAGED_READER,
        *,
        device: str | None = None,
        settings: GenerationSettings | None = None,
    ) -> None:
        import torch

        self.name = str(model)
        folder = packaged_reader() if self.name == PACKAGED_READER else Path(model)
        trained_with = read_card(folder)
        self.settings = settings or trained_with or GenerationSettings()
        self.device = device or _best_device()
        dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        self._model, self._tokenizer = _load(folder if folder.exists() else self.name, dtype)
        self._model.to(self.device).eval()

    def generate(self, turns: Sequence[Turn]) -> list[Generation]:
        """Answer each turn, in order; batches hold turns of like length."""
        packed = [self.pack(turn) for turn in turns]
        by_length = sorted(range(len(turns)), key=lambda i: len(packed[i].text))
        answers = [""] * len(turns)
        for start in range(0, len(turns), BATCH_SIZE):
            batch = by_length[start : start + BATCH_SIZE]
            for i, said in zip(batch, self._answer([packed[i] for i in batch]), strict=True):
                answers[i] = self._surface(turns[i]).restore(said) if self._uncased else said
        return [Generation(text, p.text, p.dropped) for text, p in zip(answers, packed, strict=True)]

    def stream(self, turn: Turn) -> Iterator[str]:
        """Yield the answer as it is generated; closing the iterator stops the generation."""
        said = _running_text(self._stream_words(turn))
        if not self._uncased:
            yield from _increments(said)
            return
        surface, sent, pieces = self._surface(turn), 0, list[str]()
        for text in said:
            pieces = surface.pieces(text)
            settled = max(sent, len(pieces) - LOOKAHEAD - 1)
            yield from pieces[sent:settled]
            sent = settled
        yield from pieces[sent:]

    def pack(self, turn: Turn) -> Packed:
        """The model input for a turn, within this model's budget."""
        return pack(turn, budget=self.settings.input_tokens, count_tokens=self._count)

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def _answer(self, packed: Sequence[Packed]) -> list[str]:
        import torch

        inputs = self._tokenizer([p.text for p in packed], padding=True, return_tensors="pt")
        with torch.inference_mode():
            ids = self._model.generate(**self._inputs(inputs), **self._limits)
        return [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _inputs(self, inputs: Any) -> dict[str, Any]:
        return {name: inputs[name].to(self.device) for name in ("input_ids", "attention_mask")}

    @property
    def _limits(self) -> dict[str, Any]:
        return {
            "max_new_tokens": self.settings.answer_tokens,
            "num_beams": self.settings.beams,
            "do_sample": False,
            "no_repeat_ngram_size": 4,  # a small reader may loop on a long answer
        }

    def _stream_words(self, turn: Turn) -> Iterator[str]:
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        inputs = self._tokenizer([self.pack(turn).text], return_tensors="pt")
        streamer = TextIteratorStreamer(self._tokenizer, skip_special_tokens=True)
        left = threading.Event()
        options = {**self._inputs(inputs), **self._limits, "num_beams": 1, "streamer": streamer}
        options["stopping_criteria"] = StoppingCriteriaList([lambda *_, **__: left.is_set()])
        failure: list[BaseException] = []

        def work() -> None:
            try:
                self._model.generate(**options)
            except BaseException as error:  # handed to the reader of the stream below
                failure.append(error)
                streamer.end()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            yield from streamer
        finally:
            left.set()
            worker.join()
        if failure:
            raise ModelError(
                f"{self.name} failed while answering: {failure[0]}", "Try another model with -m."
            ) from failure[0]

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
        ids = self._tokenizer("Paris", add_special_tokens=False).input_ids
        return str(self._tokenizer.decode(ids)).strip() == "paris"


def _running_text(words: Iterator[str]) -> Iterator[str]:
    text = ""
    for word in words:
        text += word
        yield text.strip()


def _increments(running: Iterator[str]) -> Iterator[str]:
    sent = 0
    for text in running:
        if len(text) > sent:
            yield text[sent:]
            sent = len(text)


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _load(name: str | Path, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        return AutoModelForSeq2SeqLM.from_pretrained(name, dtype=dtype), tokenizer
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"The model {str(name)!r} could not be loaded: {reason}",
            "Give a folder, a name that `rag-chat models list` shows, or -m extractive.",
        ) from error
