import pytest
import torch

from quiet_fits import expect_warnings

torch.set_num_threads(1)


def pytest_itemcollected(item):
    expect_warnings(item)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
