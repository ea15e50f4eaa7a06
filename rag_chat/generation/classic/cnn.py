"""A convolutional encoder-decoder: Gehring et al. 2017, arXiv 1705.03122.

Blocks of a convolution and a gated linear unit, each with a residual connection scaled by sqrt(0.5); every
block of the decoder sees only words already said, and attends over the input on its own (sections 3.1-3.4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, pad

from rag_chat.generation.classic.base import (
    ClassicConfig,
    ClassicDecoder,
    ClassicSeq2Seq,
    masked_softmax,
)

KERNEL = 3
SCALE = math.sqrt(0.5)  # keeps the variance of a sum of two


class CnnConfig(ClassicConfig):
    model_type = "rag_chat_cnn"
    max_position_embeddings: int = 1024  # one vector a place, as in the paper


class CnnSeq2Seq(ClassicSeq2Seq):
    config_class = CnnConfig

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config, Encoder(config), Decoder(config))


class Placed(nn.Module):
    """Word vectors with a vector for their place added."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.places = nn.Embedding(config.max_position_embeddings, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, words: Tensor) -> Tensor:
        here = torch.arange(words.shape[1], device=words.device)
        placed: Tensor = self.dropout(words + self.places(here))
        return placed


def convolutions(config: CnnConfig) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv1d(config.width, 2 * config.width, KERNEL) for _ in range(config.layers))


def gated(block: nn.Module, x: Tensor, left: int, right: int) -> Tensor:
    """A convolution over (batch, places, width) with so many places before and after, then its gate."""
    padded = pad(x.transpose(1, 2), (left, right))
    return glu(block(padded), dim=1).transpose(1, 2)


class Encoder(nn.Module):
    """Word vectors e (batch, read, width) -> z and z + e side by side: what attention compares and takes."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.placed = Placed(config)
        self.blocks = convolutions(config)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        embedded = x = self.placed(words) * mask.unsqueeze(-1)
        for block in self.blocks:
            x = (x + gated(block, x, KERNEL // 2, KERNEL // 2)) * SCALE * mask.unsqueeze(-1)
        return torch.cat([x, (x + embedded) * SCALE], -1)


class Decoder(ClassicDecoder):
    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        self.placed = Placed(config)
        self.blocks = convolutions(config)
        self.asks = nn.ModuleList(nn.Linear(config.width, config.width) for _ in self.blocks)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, words: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is said after each word (batch, said, width), and where the last block looked."""
        keys, values = states.chunk(2, -1)
        embedded = x = self.placed(words)
        weights = x
        for block, ask in zip(self.blocks, self.asks, strict=True):
            h = gated(block, x, KERNEL - 1, 0)  # nothing from the right: the future is not said yet
            query = (ask(h) + embedded) * SCALE
            weights = masked_softmax(query @ keys.transpose(1, 2), mask.unsqueeze(1))
            x = (x + (h + weights @ values) * SCALE) * SCALE
        return self.dropout(x), weights
