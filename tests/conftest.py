"""What several test modules share."""

import pytest
from support import ChainData, TinyLM, sequence_loss


@pytest.fixture
def tiny_lm():
    return TinyLM


@pytest.fixture
def chain_data():
    return ChainData()


@pytest.fixture
def sequence_loss_fn():
    return sequence_loss
