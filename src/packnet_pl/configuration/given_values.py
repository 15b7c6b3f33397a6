"""Overrides that no configuration could make right, refused before anything is composed: that takes Hydra a while."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from packnet_pl.choices import nearest
from packnet_pl.configuration.help import GROUPS
from packnet_pl.configuration.schema import TrainConfig, schema_keys
from packnet_pl.configuration.value_checks import check_values
from packnet_pl.errors import UsageError, one_line

__all__ = ["check_given"]

_OPEN = ("hydra", "sequence")  # these hold keys that the schema does not know, or no longer


def check_given(overrides: Sequence[str]) -> None:
    """Checks overrides as far as each can be wrong by itself; what depends on others is checked once all is composed.

    Args:
        overrides: Of a command line; Hydra can read each.

    Raises:
        UsageError: If a key is a mistyped one of the schema, or a value has the wrong type or is out of range.
    """
    parser = OverridesParser.create()
    given: Any = OmegaConf.structured(TrainConfig)
    for override in parser.parse_overrides(list(overrides)):
        if _is_plain(override):
            given = _with(given, override.key_or_group, override.value())
    check_values(given)


def _is_plain(override: Override) -> bool:
    key = override.key_or_group
    is_one_key = key not in GROUPS and override.package is None and key.partition(".")[0] not in _OPEN
    value = override.input_line or ""
    sets = not (override.is_add() or override.is_force_add() or override.is_delete() or override.is_sweep_override())
    return is_one_key and sets and "$" not in value


def _with(given: DictConfig, key: str, value: Any) -> DictConfig:
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    try:
        merged: Any = OmegaConf.merge(given, nested)
    except ConfigKeyError as error:
        hint = nearest(key, schema_keys())
        if hint.startswith("did you mean"):
            raise UsageError(f"there is no option {key}; {hint}") from error
        return given  # composed, there are more keys to name
    except OmegaConfBaseException as error:
        message = one_line(error).partition(" full_key: ")[0]
        raise UsageError(f"{key}: {message}") from error
    return merged  # type: ignore[no-any-return]
