"""Classic models to train: new ones in the words of another model, and one that only counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rag_chat.config import GenerationSettings
from rag_chat.errors import TrainingError
from rag_chat.generation.checkpoint import check_replaceable
from rag_chat.generation.classic import ngram
from rag_chat.generation.seq2seq import load_seq2seq
from rag_chat.training.examples import Example
from rag_chat.training.report import write_facts

WIDTH, RNN_LAYERS, CNN_LAYERS = 192, 1, 4
_IDS = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


def new_model(arch: str, base: str, seed: int) -> tuple[Any, Any]:
    """Return (model, tokenizer): an "rnn" or a "cnn" with seeded random weights, in the words of `base`."""
    import torch

    from rag_chat.generation.classic.cnn import CnnConfig, CnnSeq2Seq
    from rag_chat.generation.classic.rnn import RnnConfig, RnnSeq2Seq

    model, tokenizer = load_seq2seq(base)
    ids = {name: getattr(model.config, name) for name in _IDS}
    torch.manual_seed(seed)
    if arch == "rnn":
        return RnnSeq2Seq(RnnConfig(width=WIDTH, layers=RNN_LAYERS, **ids)), tokenizer
    return CnnSeq2Seq(CnnConfig(width=WIDTH, layers=CNN_LAYERS, **ids)), tokenizer


def count_ngrams(
    examples: Sequence[Example], output: Path, generation: GenerationSettings, facts: Mapping[str, Any]
) -> None:
    """Fit the n-gram model and save it with `facts`. Raises TrainingError when there is nothing to count."""
    check_replaceable(output)
    if not examples:
        raise TrainingError("There are no training examples.", "Give more dialogues.")
    pairs = ((example.turn.question, example.target) for example in examples if example.skill == "answer")
    ngram.save(ngram.fit(pairs), output, generation)
    write_facts(output, facts)
