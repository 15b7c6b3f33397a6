import pytest
import torch
from hypothesis import settings

# Reproducible and without files in the tree: an example that fails once fails again.
settings.register_profile("packed", deadline=None, max_examples=100, derandomize=True, database=None)
settings.load_profile("packed")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
