import math

import pytest

from flops_fit.records import Recipe
from flops_fit.training.schedules import SCHEDULES, learning_rate


def recipe(schedule, **changes):
    values = {"batch_tokens": 10, "learning_rate": 0.5, "warmup_tokens": 100, "schedule": schedule}
    return Recipe(**(values | changes))


@pytest.mark.parametrize(
    ("schedule", "tokens", "share"),
    [
        ("wsd", 500, 1.0),
        ("wsd", 800, 1.0),
        ("wsd", 900, 1 - math.sqrt(0.5)),
        ("cosine", 0, 0.1 * 1.0),  # warming up: 10 of 100 tokens
        ("cosine", 500, 0.55),
        ("cosine", 1000, 0.1),
        ("linear", 750, 0.25),
        ("constant", 999, 1.0),
        ("inverse_sqrt", 400, 0.5),
    ],
)
def test_hand_values(schedule, tokens, share):
    assert learning_rate(recipe(schedule), tokens, 1000) == pytest.approx(0.5 * share)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_rises_to_the_peak_and_nothing_exceeds_it(schedule):
    rates = [learning_rate(recipe(schedule), t, 1000) for t in range(0, 1000, 10)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) <= 0.5 * (1 + 1e-12)
    assert min(rates) > 0


def test_wsd_before_its_decay_does_not_depend_on_the_end():
    """What makes runs of one size branches of one trunk."""
    early = [learning_rate(recipe("wsd"), t, 1000) for t in range(0, 800, 10)]
    assert early == [learning_rate(recipe("wsd"), t, 5000) for t in range(0, 800, 10)]
