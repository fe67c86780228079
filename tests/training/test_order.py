import numpy as np
import pytest

from flops_fit.training.order import sample_ids


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 4097])
def test_an_epoch_holds_each_sample_once(n):
    assert sorted(sample_ids(0, 0, n, n)) == list(range(n))
    assert sorted(sample_ids(0, n, n, n)) == list(range(n))


def test_any_position_is_found_without_those_before_it():
    whole = sample_ids(3, 0, 5000, 1000)
    for first in (0, 1, 999, 1000, 2345):
        assert (sample_ids(3, first, 100, 1000) == whole[first : first + 100]).all()


def test_epochs_and_seeds_have_other_orders():
    one = sample_ids(0, 0, 1000, 1000)
    assert (one != sample_ids(0, 1000, 1000, 1000)).mean() > 0.99
    assert (one != sample_ids(1, 0, 1000, 1000)).mean() > 0.99


def test_the_order_looks_random():
    ids = sample_ids(0, 0, 100_000, 100_000)
    # The serial correlation of a random permutation of n has a standard deviation of 1 / sqrt(n).
    assert abs(np.corrcoef(ids[:-1], ids[1:])[0, 1]) < 4 / np.sqrt(100_000)
    # Half of the first half comes from the lower half of the ids.
    assert np.mean(ids[:50_000] < 50_000) == pytest.approx(0.5, abs=0.01)


def test_a_stream_is_read_in_its_own_order():
    assert list(sample_ids(0, 5, 3, None)) == [5, 6, 7]
