"""torchvision's MNASNet, with state dicts that do not say of which version they are taken for the present one's."""

from collections.abc import Mapping
from typing import Any

from torchvision import models

__all__ = ["MNASNet"]


class MNASNet(models.MNASNet):  # type: ignore[misc]
    """An MNASNet that also loads tensors from a plain dict, such as a safetensors file gives, as all others do.

    torchvision's own refuses them. Files of its first version, whose first layers are wider, are refused by their
    shapes.
    """

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Mapping[str, Any], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, {"version": self._version, **local_metadata}, *rest)
