import pytest
from support import RECIPE

from flops_fit.planning.feasibility import Limits, Pair, objection_to

PAIR = Pair(num_params=1000, num_tokens=20_000, recipe=RECIPE, unique_tokens=10_000)


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (Limits(min_tokens_per_param=21), "too_little_data", "min_tokens_per_param=21"),
        (Limits(max_tokens_per_param=19), "too_much_data", "max_tokens_per_param=19"),
        (Limits(min_steps=158), "too_few_steps", "min_steps=158"),
        (Limits(max_epochs=1.5), "too_many_epochs", "max_epochs=1.5"),
    ],
)
def test_a_rejection_carries_the_code_of_its_rule(limits, code, words):
    found = objection_to(PAIR, limits)
    assert found.code == code
    assert words in found.reason


def test_a_feasible_pair_has_no_objection():
    assert objection_to(PAIR, Limits(min_tokens_per_param=20, max_tokens_per_param=20, max_epochs=2)) is None


def test_a_rejection_names_the_unit_of_d():
    images = Pair(num_params=1000, num_tokens=20_000, recipe=RECIPE, unique_tokens=10_000, data_unit="images")
    for limits in (Limits(min_tokens_per_param=21), Limits(min_steps=158), Limits(max_epochs=1.5)):
        reason = objection_to(images, limits).reason
        assert "images" in reason
        assert "tokens" not in reason.partition("(")[0]
