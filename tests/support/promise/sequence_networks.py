"""Networks over sequences and tokens, each as tiny as it can be."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from tests.support.promise.user_modules import tokens

VOCABULARY = 20


def given(n):
    """Sequences of tokens of different lengths, padded with 0."""
    (found,) = tokens(6, VOCABULARY)(n)
    return [found.masked_fill(torch.arange(6) >= torch.randint(2, 7, (n, 1)), 0)]


class TextClassifier(nn.Module):
    """Embedding and a transformer encoder, which leaves padding out: eval mode takes torch's fast path."""

    def __init__(self, **embedding):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8, padding_idx=0, **embedding)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)

    def forward(self, x):
        padding = x == 0
        x = self.encoder(self.embed(x), src_key_padding_mask=padding)
        return x[:, 0]


class Attention(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 2, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)

    def forward(self, x):
        return self.attention(self.query.expand(len(x), -1, -1), x, x)[0].mean(1)


class Masked(nn.Module):
    """Causal attention; the mask is saved with the weights."""

    def __init__(self):
        super().__init__()
        self.attention, self.after = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x):
        return self.after(self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.before, self.rnn = nn.Linear(8, 8), rnn

    def forward(self, x):
        return self.rnn(torch.tanh(self.before(x)))[0][:, -1]


class Packed(nn.Module):
    """A recurrent network over sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(VOCABULARY, 8, padding_idx=0), nn.GRU(8, 8, batch_first=True)
        self.after = nn.Linear(8, 8)

    def forward(self, x):
        lengths = (x != 0).sum(1).clamp(min=1)
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        return self.after(self.rnn(packed)[1][-1])


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.after = nn.LSTMCell(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        state = None
        for part in x.unbind(1):
            state = self.cell(part, state)
        return self.after(state[0])


class TiedText(nn.Module):
    """A language model's embedding, which is its output projection as well."""

    def __init__(self, tie, sparse=False):
        super().__init__()
        self.embed, self.hidden = nn.Embedding(VOCABULARY, 8, sparse=sparse), nn.Linear(8, 8)
        self.output = nn.Linear(8, VOCABULARY, bias=False)
        tie(self)

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(self.embed(x).mean(1))))[:, :8]


def tie(net):
    net.output.weight = net.embed.weight


def tie_the_other_way(net):
    net.embed.weight = net.output.weight


def tie_data(net):
    net.output.weight.data = net.embed.weight.data


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.after = nn.EmbeddingBag(VOCABULARY, 8, mode="mean"), nn.Linear(8, 8)

    def forward(self, x):
        return self.after(self.bag(x))
