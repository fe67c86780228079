"""Published runs for the fitting tests."""

import pytest
from tables_of_runs import read_published


@pytest.fixture
def chinchilla_240():
    return read_published("chinchilla_epoch.csv", grouped=True, keep=lambda row: row["excluded_by_source"] != "True")
