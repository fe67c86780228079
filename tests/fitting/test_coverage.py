"""Do the default's 90 % intervals hold the truth in simulated sweeps, also where no law of ours is right?"""

import numpy as np
import pytest
from coverage_study import study_cell
from worlds import WORLDS

REPLICATES = 10


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_the_default_interval_covers_in_every_world(world):
    cells = [study_cell(world, "square", seed) for seed in range(2 * REPLICATES)]
    # 20 sweeps of a true coverage of .90 show at least .70 in 99 % of cases.
    assert np.mean([c["n"] for c in cells], axis=0).min() >= 0.7
    assert np.mean([c["loss"] for c in cells], axis=0).min() >= 0.7
