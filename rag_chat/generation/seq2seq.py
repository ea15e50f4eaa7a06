"""Answer turns with any encoder-decoder that `AutoModelForSeq2SeqLM` loads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings
from rag_chat.errors import ModelError
from rag_chat.generation.checkpoint import read_card
from rag_chat.generation.prompt import UNANSWERABLE, pack
from rag_chat.generation.surface import LOOKAHEAD, Surface
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
        trained_with = read_card(_place(self.name))
        self.settings = settings or trained_with or GenerationSettings()
        self.device = device or _best_device()
        dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        self._model, self._tokenizer = load_seq2seq(self.name, dtype)
        try:
            self._model.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:  # torch raises either for a device it lacks
            raise ModelError(
                f"The device {self.device!r} cannot be used: {error}", "See what there is: rag-chat doctor"
            ) from error
        self._model.generation_config.max_length = None  # a default of 20 that answer_tokens replaces
        self._lock = threading.Lock()  # fast tokenizers keep padding as state ("Already borrowed")

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        """Answer each turn, in order; batches hold turns of like length."""
        packed = [self.prompt(turn) for turn in turns]
        by_length = sorted(range(len(turns)), key=lambda i: len(packed[i].text))
        answers: dict[int, Generated] = {}
        for start in range(0, len(turns), BATCH_SIZE):
            batch = by_length[start : start + BATCH_SIZE]
            for i, said in zip(batch, self._answer([packed[i] for i in batch]), strict=True):
                answers[i] = replace(said, text=self._written(turns[i], said.text), prompt=packed[i])
        return [answers[i] for i in range(len(turns))]

    def _written(self, turn: Turn, said: str) -> str:
        """The answer with its case and spacing, where the model has none."""
        return "".join(_pieces(self._surface(turn), said)) if self._uncased else said

    def stream(self, turn: Turn) -> Iterator[str]:
        """Yield the answer as it is generated; closing the iterator stops the generation."""
        said = self._running_text(turn)
        if not self._uncased:
            yield from increments(said)
            return
        surface, sent, pieces = self._surface(turn), 0, list[str]()
        for text in said:
            pieces = _pieces(surface, text)
            settled = max(sent, len(pieces) - LOOKAHEAD - 1)
            yield from pieces[sent:settled]
            sent = settled
        yield from pieces[sent:]

    def prompt(self, turn: Turn) -> Prompt:
        """The model input for a turn, within this model's budget."""
        budget = self._at_most(self.settings.input_tokens)
        return pack(turn, budget=budget, count_tokens=self._count)

    def _at_most(self, tokens: int) -> int:
        """So many tokens, or as many as the model has places for; T5's relative places have no end."""
        places = getattr(self._model.config, "max_position_embeddings", None)
        return min(tokens, places) if places else tokens

    def _count(self, text: str) -> int:
        return len(self._encode(text).input_ids)

    def _encode(self, text: str | list[str], **options: Any) -> Any:
        with self._lock:
            return self._tokenizer(text, verbose=False, **options)

    def _answer(self, packed: Sequence[Prompt]) -> list[Generated]:
        import torch

        inputs = self._encode([p.text for p in packed], padding=True, return_tensors="pt")
        try:
            with torch.inference_mode():
                out = self._model.generate(
                    **self._inputs(inputs), **self._limits, return_dict_in_generate=True, output_logits=True
                )
                likely = self._log_likelihoods(out)
        except RuntimeError as error:  # out of memory, above all
            raise self._failed(error) from error
        texts = self._tokenizer.batch_decode(out.sequences, skip_special_tokens=True)
        return [Generated(text.strip(), mean) for text, mean in zip(texts, likely, strict=True)]

    def _log_likelihoods(self, out: Any) -> list[float]:
        """The mean log-probability of each answer's tokens, its end included and the padding not."""
        import torch

        said = out.sequences[:, -len(out.logits) :]
        each = self._model.compute_transition_scores(
            out.sequences, out.logits, out.get("beam_indices"), normalize_logits=True
        )
        ends = torch.isin(said, self._ends).int()
        real = ends.cumsum(-1) - ends == 0
        means: list[float] = ((each * real).sum(-1) / real.sum(-1)).tolist()
        return means

    @cached_property
    def _ends(self) -> Any:
        import torch

        return torch.tensor(self._model.generation_config.eos_token_id, device=self.device)

    def _failed(self, error: BaseException) -> ModelError:
        return ModelError(f"{self.name} failed while answering: {error}", "Try another model with -m.")

    def _inputs(self, inputs: Any) -> dict[str, Any]:
        return {name: inputs[name].to(self.device) for name in ("input_ids", "attention_mask")}

    @property
    def _limits(self) -> dict[str, Any]:
        return {
            "max_new_tokens": self._at_most(self.settings.answer_tokens),
            "num_beams": self.settings.beams,
            "do_sample": False,
            "no_repeat_ngram_size": 4,  # a small reader may loop on a long answer
            "sequence_bias": self._bias,
        }

    @cached_property
    def _bias(self) -> list[list[Any]] | None:
        """The bias on the first token of an abstention, as `generate` takes it."""
        first = self._encode(UNANSWERABLE, add_special_tokens=False).input_ids[:1]
        return [[first, float(self.settings.abstain_bias)]] if self.settings.abstain_bias else None

    def _running_text(self, turn: Turn) -> Iterator[str]:
        """Yield all that has been said, again after each token."""
        from transformers import StoppingCriteriaList

        inputs = self._encode([self.prompt(turn).text], return_tensors="pt")
        tokens, left, failure = _Tokens(), threading.Event(), list[BaseException]()
        options = {**self._inputs(inputs), **self._limits, "num_beams": 1, "streamer": tokens}
        options["stopping_criteria"] = StoppingCriteriaList([lambda *_, **__: left.is_set()])

        def work() -> None:
            try:
                self._model.generate(**options)
            except BaseException as error:  # handed to the reader of the stream below
                failure.append(error)
            finally:
                tokens.end()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            for ids in tokens:
                yield str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()
        finally:
            left.set()
            worker.join()
        if failure:
            raise self._failed(failure[0]) from failure[0]

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


class _Tokens:
    """A streamer as `generate` wants it: iterating gives all token ids so far, after each new one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()

    def put(self, ids: Any) -> None:
        self._queue.put(ids.flatten().tolist())

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[list[int]]:
        ids: list[int] = []
        while (new := self._queue.get()) is not None:
            ids = [*ids, *new]
            yield ids


def increments(running: Iterator[str]) -> Iterator[str]:
    """Yield what each running text adds, two words behind, since a tokenizer may yet join them ("it 's")."""
    sent, text = 0, ""
    for text in running:
        settled = text.rfind(" ", 0, max(0, text.rfind(" ")))
        if settled > sent:
            yield text[sent:settled]
            sent = settled
    if len(text) > sent:
        yield text[sent:]


def _pieces(surface: Surface, said: str) -> list[str]:
    """The answer as the evidence would write it; the word for "no answer" stays as others look for it."""
    return [said] if said == UNANSWERABLE else surface.pieces(said)


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _place(name: str) -> Path:
    return packaged_reader() if name == PACKAGED_READER else Path(name)


def load_seq2seq(name: str, dtype: Any = None) -> tuple[Any, Any]:
    """Return (model, tokenizer) for a name or folder, float32 unless a dtype is given.

    Raises ModelError when it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = _place(name)
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
