"""What is known of one network after it was tried: one line of the results."""

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HELD", "Record"]

HELD = "holds"


@dataclass(frozen=True)
class Record:
    """One network.

    Attributes:
        library: The library it is from.
        name: Its name there.
        kind: As in ``trial.Outcome``; or "not built", "does not train" (the network's own code
            raises), "failed" (that of packnet_pl), "too slow", "too large".
        detail: What is known beside it.
        seconds: How long it took, on one core.
        shares: ``vars`` of ``parameters.Shares`` for the network as it was trained; empty if it was not.
        moved: Share of the owned weights that the second task changed: half, where the inputs reach all.
        published: Numbers of parameters ("total", "owned") in its published or default size; empty if not known.
    """

    library: str
    name: str
    kind: str
    detail: str
    seconds: float
    shares: dict[str, Any] = field(default_factory=dict)
    moved: float = math.nan
    published: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        share = f"{self.of_weights:7.2%}" if self.shares else " " * 7
        return f"{self.library} {self.name:40} {self.kind:18} {share} {self.seconds:6.1f} s  {self.detail[:120]}"

    @property
    def of_weights(self) -> float:
        """Share of the weights, tables, norms and biases aside, that tasks divide, in [0, 1]."""
        return float(self.shares["owned"] / max(1, self.shares["weights"]))

    @property
    def of_all(self) -> float:
        """Share of all parameters that tasks divide, in [0, 1]: in published size if that is known."""
        numbers = self.published or self.shares
        return float(numbers["owned"]) / max(1, numbers["total"])
