"""A recurrent encoder-decoder that learns to align: Bahdanau, Cho & Bengio 2015, arXiv 1409.0473.

A bidirectional GRU reads; a GRU says one word at a time, looking at each step for where in the input it is
(section 3 and appendix A). Word vectors are shared with the output layer instead of the paper's maxout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rag_chat.generation.classic.base import (
    ClassicConfig,
    ClassicDecoder,
    ClassicSeq2Seq,
    masked_softmax,
)


class RnnConfig(ClassicConfig):
    model_type = "rag_chat_rnn"


class RnnSeq2Seq(ClassicSeq2Seq):
    config_class = RnnConfig

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config, Encoder(config), Decoder(config))


class Encoder(nn.Module):
    """Word vectors (batch, read, width) -> annotations h_j (batch, read, 2 width), left and right context."""

    def __init__(self, config: RnnConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(config.width, config.width, config.layers, batch_first=True, bidirectional=True)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(words), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=words.shape[1]
        )
        read: Tensor = self.dropout(states)
        return read


class Decoder(ClassicDecoder):
    """Says the next word from its state s_i, the context c_i and the word before."""

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config)
        width = config.width
        self.dropout = nn.Dropout(config.dropout)
        self.first = nn.Linear(2 * width, width)
        self.where = nn.Linear(width, width)  # W_a, of the state
        self.what = nn.Linear(2 * width, width, bias=False)  # U_a, of the annotations
        self.score = nn.Linear(width, 1, bias=False)  # v_a
        self.gru = nn.GRUCell(3 * width, width)
        self.out = nn.Linear(4 * width, width)

    def forward(self, words: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is said after each word (batch, said, width), and where it looked (batch, said, read)."""
        words, keys = self.dropout(words), self.what(states)
        read = mask.unsqueeze(-1)
        state = torch.tanh(self.first((states * read).sum(1) / read.sum(1).clamp(min=1)))
        said, looked = [], []
        for word in words.unbind(1):
            aligned = self.score(torch.tanh(self.where(state).unsqueeze(1) + keys)).squeeze(-1)
            weights = masked_softmax(aligned, mask)
            context = (weights.unsqueeze(1) @ states).squeeze(1)
            state = self.gru(torch.cat([word, context], -1), state)
            said.append(self.out(torch.cat([state, context, word], -1)))
            looked.append(weights)
        return self.dropout(torch.stack(said, 1)), torch.stack(looked, 1)
