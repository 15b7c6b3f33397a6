"""Random inputs for a model of transformers, from the names of its arguments and the fields of its configuration."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["candidates"]

TOKENS, BATCH = 12, 2

Maker = Callable[["Sizes", int], Tensor]


class Sizes:
    """Looks sizes up in a configuration and those inside it: the outermost that has one of the names decides."""

    def __init__(self, config: Any) -> None:
        self._fields = config.to_dict()

    def get(self, *names: str, default: int) -> int:
        """Returns the first of ``names`` that is a field with a number or a list of them; else ``default``."""
        level = [self._fields]
        while level:
            for name in names:
                for fields in level:
                    value = fields.get(name)
                    value = value[0] if isinstance(value, (list, tuple)) and value else value
                    if type(value) is int and value > 0:
                        return value
            level = [inner for fields in level for inner in fields.values() if isinstance(inner, dict)]
        return default

    @property
    def image(self) -> tuple[int, int]:
        """Channels, and the side in pixels."""
        return self.get("num_channels", "in_channels", "in_chans", default=3), self.get(
            "image_size", "img_size", default=64
        )

    @property
    def hidden(self) -> int:
        """Width of hidden states."""
        return self.get("hidden_size", "d_model", "embed_dim", "hidden_dim", default=64)

    @property
    def mel(self) -> int:
        """Bins of a spectrogram."""
        return self.get(
            "num_mel_bins",
            "feature_size",
            "input_feat_per_channel",
            "n_mels",
            "mel_dim",
            "input_dim",
            "model_in_dim",
            default=80,
        )


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _tokens(sizes: Sizes, seed: int, *shape: int) -> Tensor:
    largest = min(120, sizes.get("vocab_size", default=120))
    return torch.randint(5, largest, shape, generator=torch.Generator().manual_seed(seed))


def _images(sizes: Sizes, seed: int) -> Tensor:
    channels, side = sizes.image
    return _normal(seed, BATCH, channels, side, side)


def _small_images(sizes: Sizes, seed: int) -> Tensor:
    return _normal(seed, BATCH, sizes.image[0], 64, 64)


def _video(sizes: Sizes, seed: int) -> Tensor:
    channels, side = sizes.image
    return _normal(seed, BATCH, sizes.get("num_frames", "frames_per_clip", default=4), channels, side, side)


def _mel_last(sizes: Sizes, seed: int) -> Tensor:
    return _normal(seed, BATCH, sizes.get("max_length", default=128), sizes.mel)


def _mel_first(sizes: Sizes, seed: int) -> Tensor:
    return _normal(seed, BATCH, sizes.mel, 2 * sizes.get("max_source_positions", default=64))


def _sound(_: Sizes, seed: int) -> Tensor:
    return 0.1 * _normal(seed, BATCH, 8000)


def _sound_channel(_: Sizes, seed: int) -> Tensor:
    return 0.1 * _normal(seed, BATCH, 1, 8000)


def _hidden(sizes: Sizes, seed: int) -> Tensor:
    return _normal(seed, BATCH, TOKENS, sizes.hidden)


def _patches(sizes: Sizes, seed: int) -> Tensor:
    side, frames = sizes.get("patch_size", default=16), sizes.get("temporal_patch_size", default=1)
    return _normal(seed, 16, sizes.image[0] * frames * side * side)


def _series(sizes: Sizes, seed: int) -> Tensor:
    return _normal(seed, BATCH, sizes.get("context_length", default=32), sizes.get("num_input_channels", default=1))


def _past_length(sizes: Sizes) -> int:
    return sizes.get("context_length", "prediction_length", default=4) + 7  # the largest of the default lags


def _past(sizes: Sizes, seed: int) -> Tensor:
    return _normal(seed, BATCH, _past_length(sizes))


def _grid(_: Sizes, __: int) -> Tensor:
    return torch.tensor([[1, 4, 4]])


# Name of the argument -> what may be given, the first that the model takes.
MAKERS: dict[str, tuple[Maker, ...]] = {
    "input_ids": (lambda sizes, seed: _tokens(sizes, seed, BATCH, TOKENS),),
    "decoder_input_ids": (lambda sizes, seed: _tokens(sizes, seed + 1, BATCH, 8),),
    "pixel_values": (_small_images, _images, _video, _patches),
    "pixel_values_videos": (_video,),
    "input_values": (_sound, _mel_last, _sound_channel, _mel_first),
    "input_features": (_mel_first, _mel_last),
    "audio_values": (_mel_last, _sound_channel),
    "hidden_states": (_hidden, _patches, _images, _mel_first),
    "inputs_embeds": (_hidden,),
    "query_embeds": (_hidden,),
    "encoder_hidden_states": (_hidden,),
    "grid_thw": (_grid,),
    "past_values": (_series, _past),
    "past_time_features": (lambda sizes, _: torch.zeros(BATCH, _past_length(sizes), 0),),
    "past_observed_mask": (lambda sizes, _: torch.ones(BATCH, _past_length(sizes)),),
    "future_values": (lambda _, seed: _normal(seed + 1, BATCH, 4),),
    "future_time_features": (lambda *_: torch.zeros(BATCH, 4, 0),),
    "task_inputs": (lambda sizes, seed: _tokens(sizes, seed, BATCH, sizes.get("task_seq_len", default=77)),),
    "spectrogram": (_mel_last,),
    "input_features_mask": (
        lambda sizes, _: torch.ones(BATCH, 2 * sizes.get("max_source_positions", default=64), dtype=torch.long),
        lambda *_: torch.ones(BATCH, 128, dtype=torch.long),
    ),
    "states": (lambda sizes, seed: _normal(seed, BATCH, TOKENS, sizes.get("state_dim", default=17)),),
    "actions": (lambda sizes, seed: _normal(seed + 1, BATCH, TOKENS, sizes.get("act_dim", default=4)),),
    "rewards": (lambda _, seed: _normal(seed + 2, BATCH, TOKENS, 1),),
    "returns_to_go": (lambda _, seed: _normal(seed + 3, BATCH, TOKENS, 1),),
    "timesteps": (lambda sizes, seed: _tokens(sizes, seed, BATCH, TOKENS),),
    "image": (_small_images, _images),
    "input": (lambda sizes, seed: _tokens(sizes, seed, BATCH, TOKENS),),
    "bbox": (lambda *_: torch.zeros(BATCH, TOKENS, 4, dtype=torch.long),),
    "attention_mask": (lambda *_: torch.ones(BATCH, TOKENS, dtype=torch.long),),
    "input_points": (lambda *_: torch.ones(BATCH, 1, 1, 2),),
    "audio_codes": (lambda sizes, seed: _tokens(sizes, seed, BATCH, sizes.get("num_quantizers", default=8), TOKENS),),
}

# Which arguments together make sense; an entry that the model does not know is left out.
SETS = (
    ("input_ids", "pixel_values"),
    ("input_ids", "input_features"),
    ("input_ids", "input_values"),
    ("input_ids",),
    ("input_ids", "decoder_input_ids"),
    ("pixel_values",),
    ("input_ids", "pixel_values", "bbox"),
    ("pixel_values", "decoder_input_ids"),
    ("pixel_values_videos",),
    ("input_features", "decoder_input_ids"),
    ("input_features", "input_features_mask"),
    ("input_features",),
    ("input_values", "decoder_input_ids"),
    ("input_values",),
    ("audio_values", "pixel_values"),
    ("pixel_values", "input_points"),
    ("hidden_states", "grid_thw"),
    ("inputs_embeds",),
    ("query_embeds", "encoder_hidden_states"),
    ("hidden_states",),
    ("past_values", "past_time_features", "past_observed_mask", "future_values", "future_time_features"),
    ("past_values",),
    ("spectrogram",),
    ("image",),
    ("states", "actions", "rewards", "returns_to_go", "timesteps"),
    ("input_ids", "bbox"),
)


def candidates(module: nn.Module, config: Any) -> Iterator[Callable[[int], dict[str, Tensor]]]:
    """Yields functions from a seed to keyword arguments for ``module.forward``, the more telling ones first."""
    sizes = Sizes(config)
    known = inspect.signature(module.forward).parameters
    needed = {name for name, each in known.items() if each.default is each.empty and each.kind not in _OPEN}
    done = set()
    for names in SETS:
        chosen = tuple(name for name in MAKERS if name in known and (name in names or name in needed))
        if not set(names) <= set(known) or not needed <= set(chosen) or chosen in done:
            continue
        done.add(chosen)
        ways = max(len(MAKERS[name]) for name in chosen)
        for way in range(ways):
            makers = {name: MAKERS[name][min(way, len(MAKERS[name]) - 1)] for name in chosen}
            yield partial(_made, sizes, makers)


def _made(sizes: Sizes, makers: dict[str, Maker], seed: int) -> dict[str, Tensor]:
    return {name: make(sizes, seed) for name, make in makers.items()}


_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
