"""Tiny real models for tests: plain functions, each a folder or a loaded model made in seconds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.config import GenerationSettings, TrainingSettings
from rag_chat.training.examples import Example
from rag_chat.types import EmbedderIdentity, Generated, Generator, Message, Passage, Prompt, Turn

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "question passage user assistant where is the city of tromsø lies in norway how long do i boil an egg "
    "for six minutes eggs and it 69 . , : ? ' 6 north unanswerable a to what was said then"
).split()
PLACE = Passage("t#p0", "t.md", "Tromsø", "The city of Tromsø lies in Norway.", 0, 34, context="Tromsø")
EGGS = Passage("e#p0", "e.md", "Eggs", "Boil an egg for six minutes.", 0, 28, context="Eggs")
PAIRS = (
    Example("d1", Turn("Where is Tromsø?", (), (PLACE,)), "Tromsø lies in Norway."),
    Example(
        "d2",
        Turn("How long?", (Message("user", "An egg?"), Message("assistant", "Boil it.")), (EGGS,)),
        "Boil an egg for six minutes.",
    ),
)
ANSWERS = ("Tromsø lies in Norway.", "Boil an egg for six minutes.")
QUICK = TrainingSettings(
    epochs=60, batch_size=2, learning_rate=1e-2, warmup_steps=4, eval_every=30, passages=1, gold_dropout=0.0
)
SHORT = GenerationSettings(input_tokens=48, answer_tokens=12)


def texts(generator: Generator, turns: Sequence[Turn]) -> list[str]:
    """What a generator says to each turn, and nothing more."""
    return [said.text for said in generator.generate(turns)]


def wordpiece(words: Sequence[str] = tuple(WORDS), *, uncased: bool = True) -> Any:
    """A BERT tokenizer of these words and of the letters they can fall apart into."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [*(chr(code) for code in range(33, 127)), "ø"]
    known = list(dict.fromkeys([*SPECIAL, *words, *letters, *(f"##{one}" for one in letters)]))
    inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=uncased)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def bart(tokenizer: Any, *, seed: int = 0) -> Any:
    """A one-layer BART of width 32 with 64 places, random weights."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(seed)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=64,
            dropout=0.0,
            init_std=0.1,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
        )
    )


def saved_bart(folder: Path) -> Path:
    """The folder of that BART, untrained, with its tokenizer."""
    tokenizer = wordpiece()
    bart(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    """A one-layer T5 with random weights and a unigram tokenizer, saved."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -3.0), *((one, -4.0) for one in letters)]
    inner = Tokenizer(models.Unigram([*pieces, *((f"▁{word}", -2.0) for word in WORDS)], unk_id=2))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert(folder: Path, *, seed: int = 5) -> Path:
    """A two-layer BERT of width 32 with random weights and its tokenizer, saved."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = wordpiece()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,  # large enough for a wrong weight to show
    )
    model = BertModel(config)
    for name, weight in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            torch.nn.init.normal_(weight, 1.0 if name.endswith("weight") else 0.0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class WordEmbedder:
    """A deterministic embedder: a unit vector of hashed word counts."""

    identity = EmbedderIdentity("words", "1", 64)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[int(hashlib.md5(word.encode()).hexdigest(), 16) % 64] += 1.0
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, norms, out=np.full_like(rows, 1 / 8), where=norms > 0)


class Scripted:
    """Says what a function makes of a turn, in pieces of three characters."""

    name = "scripted"

    def __init__(self, say: dict[str, str]) -> None:
        self.say = say
        self.turns: list[Turn] = []

    def prompt(self, turn: Turn) -> Prompt:
        return Prompt(f"prompt of {turn.question}")

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        self.turns += turns
        return [Generated(self.say[turn.question]) for turn in turns]

    def stream(self, turn: Turn) -> Iterator[str]:
        text = self.generate([turn])[0].text
        yield from (text[i : i + 3] for i in range(0, len(text), 3))
