"""The models before transformers, each about a page, answering through the same protocol.

An n-gram model with back-off (Brants et al. 2007), a recurrent encoder-decoder with attention (Bahdanau et
al. 2015) and a convolutional one (Gehring et al. 2017). The two neural ones are encoder-decoders for
transformers: the same trainer, checkpoint and decoding serve them.
"""

from __future__ import annotations

from typing import Literal, get_args

Arch = Literal["transformer", "ngram", "rnn", "cnn"]
ARCHS: tuple[Arch, ...] = get_args(Arch)


def register() -> None:
    """Make transformers load the neural ones from their folders."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    from rag_chat.generation.classic.cnn import CnnConfig, CnnSeq2Seq
    from rag_chat.generation.classic.rnn import RnnConfig, RnnSeq2Seq

    for config, model in ((RnnConfig, RnnSeq2Seq), (CnnConfig, CnnSeq2Seq)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForSeq2SeqLM.register(config, model, exist_ok=True)
