"""What the tests of the contracts share."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny models: threads only wait for each other
    yield
    torch.set_num_threads(before)
