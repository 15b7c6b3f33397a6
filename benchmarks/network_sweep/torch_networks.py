"""Layers of torch itself with weights of other kinds than convolutions and linear layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from network_sweep.network import Network, random_images
from network_sweep.weightless import weightless

__all__ = ["build", "count", "names", "published"]


class _Attention(nn.Module):
    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.embedding, self.attention = nn.Embedding(50, 32), nn.MultiheadAttention(32, 4, batch_first=True, **sizes)
        self.to_keys = nn.Linear(32, sizes.get("kdim", 32))

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns what each token attends to."""
        queries = self.embedding(tokens)
        keys = self.to_keys(queries)
        attended: Tensor = self.attention(queries, keys, keys, need_weights=False)[0]
        return attended


class _Recurrent(nn.Module):
    def __init__(self, layers: nn.RNNBase) -> None:
        super().__init__()
        self.embedding, self.layers = nn.Embedding(50, 32), layers

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the hidden state at each token."""
        states: Tensor = self.layers(self.embedding(tokens))[0]
        return states


class _Cell(nn.Module):
    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.embedding, self.cell = nn.Embedding(50, 32), cell

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the last hidden state."""
        first, *steps = self.embedding(tokens).unbind(1)
        state = self.cell(first)
        for step in steps:
            state = self.cell(step, state)
        hidden: Tensor = state[0] if isinstance(state, tuple) else state
        return hidden


class _Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = nn.Linear(8, 16), nn.Linear(8, 16), nn.Bilinear(16, 16, 24)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the bilinear form of two projections."""
        form: Tensor = self.both(self.left(inputs), self.right(inputs))
        return form


class _Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.transformer = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the decoder's states."""
        embedded = self.embedding(tokens)
        states: Tensor = self.transformer(embedded, embedded.flip(1))
        return states


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the encoder's states."""
        states: Tensor = self.encoder(self.embedding(tokens))
        return states


def _tokens(module: nn.Module, seed: int) -> Tensor:
    states: Tensor = module(torch.randint(50, (4, 10), generator=torch.Generator().manual_seed(seed)))
    return states


def _numbers(module: nn.Module, seed: int) -> Tensor:
    form: Tensor = module(random_images(seed, 4, 8))
    return form


MAKERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, int], Tensor]]] = {
    "nn.LSTM": (lambda: _Recurrent(nn.LSTM(32, 48, 2, batch_first=True)), _tokens),
    "nn.LSTM, bidirectional": (lambda: _Recurrent(nn.LSTM(32, 48, 2, batch_first=True, bidirectional=True)), _tokens),
    "nn.LSTM, projections": (lambda: _Recurrent(nn.LSTM(32, 48, 2, batch_first=True, proj_size=16)), _tokens),
    "nn.GRU": (lambda: _Recurrent(nn.GRU(32, 48, 2, batch_first=True)), _tokens),
    "nn.RNN": (lambda: _Recurrent(nn.RNN(32, 48, 2, batch_first=True)), _tokens),
    "nn.LSTMCell": (lambda: _Cell(nn.LSTMCell(32, 32)), _tokens),
    "nn.GRUCell": (lambda: _Cell(nn.GRUCell(32, 32)), _tokens),
    "nn.RNNCell": (lambda: _Cell(nn.RNNCell(32, 32)), _tokens),
    "nn.MultiheadAttention, packed": (_Attention, _tokens),
    "nn.MultiheadAttention, separate": (lambda: _Attention(kdim=24, vdim=24), _tokens),
    "nn.Transformer": (_Translator, _tokens),
    "nn.TransformerEncoder": (_Encoder, _tokens),
    "nn.Bilinear": (_Bilinear, _numbers),
}


def names() -> list[str]:
    """Returns the names of the layers."""
    return list(MAKERS)


def count() -> int:
    """Returns the number of layers that there are."""
    return len(MAKERS)


def build(name: str) -> Network:
    """Returns a small network with this layer."""
    torch.manual_seed(0)
    make, call = MAKERS[name]
    return Network(make(), call)


def published(name: str) -> nn.Module:
    """Returns the same network on the meta device."""
    return weightless(MAKERS[name][0])
