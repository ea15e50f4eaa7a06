"""Tiny real models and a small index over them, made once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from rag_chat.types import Dialogue, Document, Message

if TYPE_CHECKING:
    from rag_chat.index.embedding import SentenceTransformerEmbedder
    from rag_chat.retrieval.index import Index

# Each run tries the same examples, and none is held against a clock that a busy machine does not keep.
# For others: pytest --hypothesis-profile default
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

TEXTS = {
    "food/eggs": "Boil an egg for six minutes. A soft yolk sets at about 65 degrees.",
    "food/pizza": "Pizza dough rests for a day. The oven must be as hot as it can be.",
    "food/tea": "Green tea is steeped at 75 degrees for two minutes.",
    "food/rice": "Rinse the rice until the water is clear.",
    "sports/golf": "A golf ball has dimples. They let it fly further.",
    "sports/skiing": "Alpine skiing needs snow. Edges let the ski turn.",
    "sports/rowing": "A rowing crew of eight has a cox who steers.",
    "travel/iceland": "Volcano hikes in Iceland are open in summer. Northern lights are seen in winter.",
    "travel/kyoto": "Kyoto has temples and gardens. Cherry trees bloom in April.",
    "travel/trains": "A night train has beds. Book it weeks ahead.",
}
EXCHANGES = {
    "d-eggs": ("How long do I boil an egg?", "Six minutes, for a soft yolk."),
    "d-tea": ("Is boiling water right for green tea?", "No, 75 degrees are enough."),
    "d-lights": ("When are the northern lights seen?", "In winter, in Iceland."),
}


# --- A tiny embedder -------------------------------------------------------------------------------


def tiny_documents() -> list[Document]:
    """Ten short documents of three topics."""
    return [
        Document(
            f"{name}.md",
            text,
            name.split("/")[1].title(),
            {"topic": name.split("/")[0], "words": len(text.split())},
        )
        for name, text in TEXTS.items()
    ]


def tiny_dialogues() -> list[Dialogue]:
    """Three conversations of one exchange."""
    return [
        Dialogue(name, (Message("user", asked), Message("assistant", said)), "chat", {"topic": "chat"})
        for name, (asked, said) in EXCHANGES.items()
    ]


def build_tiny_bert(folder: Path, seed: int) -> Path:
    """Save a one-layer BERT of width 32 with seeded random weights as a sentence-transformers model."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = " ".join([*TEXTS.values(), *(" ".join(pair) for pair in EXCHANGES.values())]).lower().split()
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    vocabulary = list(dict.fromkeys(tokens + sorted({word.strip(".,?") for word in words})))
    place = folder / "bert"
    place.mkdir(parents=True)
    (place / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    BertModel(config).save_pretrained(place)
    SentenceTransformer(str(place), device="cpu").save(str(folder / "model"))  # with mean pooling
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformerEmbedder:
    from rag_chat.index.embedding import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(build_tiny_bert(tmp_path_factory.mktemp("tiny-bert"), seed=7))


@pytest.fixture(scope="session")
def tiny_index(
    tmp_path_factory: pytest.TempPathFactory, tiny_embedder: SentenceTransformerEmbedder
) -> Iterator[Index]:
    """Ten documents and three dialogues; shared, so read it only."""
    from rag_chat.retrieval.index import Index

    folder = tmp_path_factory.mktemp("tiny-index") / "index"
    with Index.build([*tiny_documents(), *tiny_dialogues()], folder, embedder=tiny_embedder) as index:
        yield index


# --- A tiny reader ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def trained_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uncased encoder-decoder that knows two pairs by heart; read it only."""
    import models

    from rag_chat.training.finetune import finetune

    folder = tmp_path_factory.mktemp("tiny-reader") / "reader"
    tokenizer = models.wordpiece()
    report = finetune(
        models.bart(tokenizer),
        tokenizer,
        models.PAIRS,
        models.PAIRS,
        folder,
        settings=models.QUICK,
        generation=models.SHORT,
    )
    assert report.best_f1 == 1.0
    return folder
