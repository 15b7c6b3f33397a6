import logging

import pytest
import torch

torch.set_num_threads(1)
logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)

# What Lightning has to say about fits that are tiny on purpose.
EXPECTED = (
    "does not have many workers",
    "have no `val_dataloader`",
    "have no `training_step`",
    "module.s. in eval mode at the start of training",
    "callbacks used to create the checkpoint need to be provided",
    "exists and is not empty",
    "LeafSpec.. is deprecated",
)


def pytest_itemcollected(item):
    for warning in EXPECTED:
        item.add_marker(pytest.mark.filterwarnings(f"ignore:.*{warning}"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
