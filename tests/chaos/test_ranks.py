"""Two ranks of real training are killed at any moment, and no trace of it is left in the results."""

import sys

import numpy as np
import pytest
from ranks import storm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a process' children"),
]


def test_killed_and_resumed_ranks_end_with_the_bits_of_ranks_left_alone(tmp_path):
    # By this seed: SIGTERM, the launcher, one rank, all of them.
    figures = storm(tmp_path, 4, np.random.default_rng(26))
    assert (figures["kills"], figures["values_that_differ"], figures["orphans"]) == (4, 0, 0)
    assert set(figures["by_victim"]) == {"launcher", "rank 1", "all", "SIGTERM"}
