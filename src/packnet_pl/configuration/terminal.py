"""Sets up what libraries print on the terminal, until a run has its own logging."""

import logging
import os
import warnings

__all__ = ["quiet_lightning", "set_up"]

# What Lightning says about every short run on a CPU, and about norms that PackNet keeps in eval mode.
_KNOWN_WARNINGS = (
    "does not have many workers",
    "in eval mode at the start of training",
    "LeafSpec",
    "your dataloader is not resumable",  # ours is: a task's datamodule saves its position
    "srun. command is available",
    "returned a view tensor",  # nobody writes into the features of a sharded backbone
)


def set_up() -> None:
    """Has Hydra raise its errors, which the commands report, and shows the package's own log messages."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Until Hydra sets up a run's own logging.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("packnet_pl").setLevel(logging.INFO)


def quiet_lightning() -> None:
    """Silences messages of Lightning's that every run would print."""
    import pytorch_lightning  # noqa: F401 (it sets its loggers' levels when it is imported)

    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}")
