"""Shrinks a configuration of transformers: the fields that decide sizes have few names in all its model types."""

import re
from collections.abc import Callable
from typing import Any

__all__ = ["LEVELS", "VOCABULARY", "shrunk"]

VOCABULARY = 200
LAYERS = 2
FACTOR = 8

LEVELS = ("constant", "scaled", "depth", "none")
"""How much is shrunk: every size that is known by name is set, or divided by ``FACTOR``; only the number of layers,
experts and tokens is set; nothing is."""

_LAYERS = (
    r"(num|n)_(hidden_)?layers?|(.*_)?(encoder|decoder)_(num_)?layers|depth|(.*_)?num_(hidden_)?layers|layers|resampler_depth"
    r"|num_(encoder|decoder)_layers|num_encoder_blocks"
)

# Name of a field, in full -> what it is set to at most, whatever the level.
_COUNTS: tuple[tuple[str, int], ...] = (
    (r"(.*_)?vocab_size(_per_layer_input|_audio)?|unpadded_vocab_size", VOCABULARY),
    (_LAYERS, LAYERS),
    (
        r"(.*_)?(max_position_embeddings|n_positions|max_target_positions|max_source_positions|n_ctx|context_length)",
        128,
    ),
    (r"first_k_dense_replace|n_group|topk_group|num_nextn_predict_layers|num_kv_shared_layers", 1),
    (r"num_(local_)?experts|n_routed_experts|moe_num_experts|num_moe_experts|num_dense_layers", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|top_?k_experts", 2),
    (r"(.*_)?(sliding_window|sliding_window_size|attention_window|local_attention|attention_chunk_size)", 8),
    (r"index_topk", 4),
    (r"attn_layer_offset", 1),
    (r"attn_layer_period|expert_layer_period|full_attention_interval|decoder_sparse_step", 2),
)

# The same for widths and heads -> what they are set to on level "constant".
_WIDTHS: tuple[tuple[str, int], ...] = (
    (r"qk_rope_head_dim|rotary_dim|adanorm_num_embeddings", 8),
    (r"(.*_)?head_dim|d_kv|d_head|(.*_)?dim_head|head_size", 16),
    (r"mamba_d_head", 32),
    (r"mamba_d_ssm", 128),
    (r"upsample_groups", 64),
    (r"qk_head_dim", 24),
    (r"(kv|q|o)_lora_rank", 16),
    (r"(.*_)?(intermediate_size|ffn_dim|ffn_hidden_size|mlp_dim|d_ff|n_inner|ff_dim|intermediate_dim|dim_feedforward"
     r"|feed_forward_hidden_size)", 96),
    (r"(.*_)?(hidden_size|d_model|n_embd|hidden_dim|model_dim|emb_dim|embed_proj_dim|projection_dim|proj_dim|project_dim"
     r"|embedding_size|embed_dim|embedding_dim|encoder_dim|decoder_dim|cross_attention_dim|projection_size|output_dim"
     r"|hidden_size_per_layer_input)|d_text|dim|d_rnn|d_inner|lru_width", 64),
)  # fmt: skip
_HEADS: tuple[tuple[str, int], ...] = (
    (r"(.*_)?(attention_heads|num_heads|n_heads?|num_q_heads|query_heads|attn_heads)", 4),
    (r"(.*_)?(num_key_value_heads|num_kv_heads|n_head_kv)", 2),
    (r"linear_num_(key|value)_heads|mamba_n(um)?_heads", 4),
)

# Fields that follow from others: the configuration makes them anew.
_DERIVED = {"out_features", "out_indices", "stage_names", "per_layer_config", "_out_features", "_out_indices"}
# Fields that a model type may need, although its default configuration leaves them open.
_MISSING = {"num_experts_per_tok": 2, "head_dim": 16, "vocab_size": VOCABULARY, "prediction_length": 4}
_TOKEN = re.compile(r".*_token_(id|index)|.*_token|.*_id")


def shrunk(fields: dict[str, Any], level: str) -> dict[str, Any]:
    """Returns the fields of a configuration, and of those inside it, with smaller sizes.

    Args:
        fields: As ``config.to_dict()`` returns them.
        level: One of ``LEVELS``, but "none".
    """
    layers = {value for name, value in fields.items() if type(value) is int and re.fullmatch(_LAYERS, name)}
    derived = _DERIVED
    if "depths" in fields:  # stages: their number stays, and widths grow from one to the next
        layers, derived, level = set(), set(), "scaled" if level == "constant" else level
    small = {name: _small(name, value, layers, level) for name, value in fields.items() if name not in derived}
    if level == "constant":
        small |= {name: size for name, size in _MISSING.items() if name in fields and fields[name] is None}
        _fit_heads(fields, small)
    if level != "depth":
        _fit_image(small)
    _fit_tokens(small)
    if "use_cache" in small:
        small["use_cache"] = False  # some caches ask for layers that are left out here
    return small


def _small(name: str, value: Any, layers: set[int], level: str) -> Any:
    if isinstance(value, dict):
        if "rope_type" in value and level != "depth":
            return value | {"mrope_section": _small_section(value.get("mrope_section") or [16, 24, 24])}
        return shrunk(value, level) if "model_type" in value or name.endswith("config") else value
    if isinstance(value, (list, tuple)):
        if name in {"depths", "num_blocks", "blocks_per_stage", "layer_depths"}:
            return [1] * len(value)
        return [*value[: LAYERS - 1], value[-1]] if len(value) in layers and len(value) > LAYERS else value
    return min(value, _size(name, value, level)) if type(value) is int and value > 0 else value


def _small_section(section: list[int]) -> list[int]:
    """Returns the shares of a rotary embedding, divided as its width is."""
    *first, _ = (each // FACTOR for each in section)
    return [*first, sum(section) // FACTOR - sum(first)]


def _size(name: str, value: int, level: str) -> int:
    for pattern, size in _COUNTS:
        if re.fullmatch(pattern, name):
            return size
    divide: Callable[[int, int], int] = (
        (lambda _, given: given // FACTOR) if level == "scaled" else (lambda size, _: size)
    )
    for pattern, size in () if level == "depth" else (*_WIDTHS, *(_HEADS if level == "constant" else ())):
        if re.fullmatch(pattern, name):
            return max(divide(size, value), 1)
    return value


def _fit_heads(before: dict[str, Any], small: dict[str, Any]) -> None:
    """Keeps as many heads for keys as for queries where that was so."""
    for name in small:
        if re.fullmatch(_HEADS[1][0], name):
            queries = name.replace("key_value_heads", "attention_heads").replace("kv_heads", "heads")
            queries = "n_head" if name == "n_head_kv" else queries
            if queries in small and before[name] == before.get(queries):
                small[name] = small[queries]


def _fit_image(small: dict[str, Any]) -> None:
    patch, image = small.get("patch_size"), small.get("image_size")
    if isinstance(patch, int) and isinstance(image, int) and "depths" not in small and image // patch > 4:
        small["image_size"] = 4 * patch


def _fit_tokens(small: dict[str, Any]) -> None:
    """Brings the numbers of special tokens into the vocabulary, each another."""
    free = VOCABULARY - 1
    for name, value in small.items():
        if not _TOKEN.fullmatch(name):
            continue
        if type(value) is int and value >= VOCABULARY - 40:
            small[name], free = free, free - 1
        elif isinstance(value, list) and value and all(type(each) is int for each in value):
            small[name] = [min(each, VOCABULARY - 1) for each in value]
