import json
import math

import pytest
from support import ChainData, TinyLM, sequence_loss

import flops_fit
from flops_fit.errors import ConfigError
from flops_fit.planning.recipe import RecipeRule
from flops_fit.recipes.schedules import SCHEDULES, Schedule, learning_rate, trunk_steps
from flops_fit.records import Recipe


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


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("decay_fraction", [0.1, 0.2, 1 / 3, 1.0])
def test_tokens_that_are_called_common_do_not_depend_on_the_length(schedule, decay_fraction):
    """A schedule that claims too many would corrupt every run that shares a trunk."""
    made, total = recipe(schedule, decay_fraction=decay_fraction), 997
    rule = SCHEDULES[schedule]
    common = rule.common_tokens(made, total)
    assert 0 <= common <= total
    for longer in (total + 1, 2 * total, 10 * total):
        assert all(rule.multiplier(made, t, total) == rule.multiplier(made, t, longer) for t in range(common))


def test_an_unknown_schedule_names_the_nearest_where_it_is_planned_and_where_it_is_trained():
    expected = r"sweep\.recipe\.schedule: unknown schedule 'cosin'\. Did you mean 'cosine'\? Known: constant, cosine"
    with pytest.raises(ConfigError, match=expected):
        RecipeRule(schedule="cosin")
    with pytest.raises(ConfigError, match=expected):
        learning_rate(recipe("cosin"), 0, 1000)
    with pytest.raises(ConfigError, match=expected):
        trunk_steps(recipe("cosin"), 1000)


def test_a_new_schedule_is_one_line_and_shares_trunks(monkeypatch, tmp_path):
    """Two steps down: half the rate after 1000 tokens, wherever the run ends."""
    halved = Schedule(multiplier=lambda r, t, total: 1.0 if t < 1000 else 0.5, common_tokens=lambda r, total: total)
    monkeypatch.setitem(SCHEDULES, "halved", halved)

    def losses(folder, **settings):
        result = flops_fit.find_optimal(
            TinyLM, "width", None, ChainData(), sequence_loss, [4e6, 8e6, 1.6e7], output_dir=tmp_path / folder,
            sweep={"min_size": 8, "max_size": 16, "size_multiple": 8, "num_sizes_per_budget": 2,
                   "recipe": {"schedule": "halved", "batch_tokens": 128, "max_learning_rate": 0.01}},
            train_config={"precision": "fp32", "compile": "never", **settings},
        )  # fmt: skip
        return {r.experiment.experiment_id: (r.loss, r.steps_from_trunk) for r in result.run_results}

    shared, alone = losses("shared"), losses("alone", share_trunks=False)
    assert {k: loss for k, (loss, _) in shared.items()} == {k: loss for k, (loss, _) in alone.items()}
    assert max(steps for _, steps in shared.values()) > 0
    log = next(tmp_path.glob("shared/runs/*/metrics.jsonl"))
    rates = [json.loads(line)["learning_rate"] for line in log.read_text().splitlines()]
    assert min(rates) == pytest.approx(0.5 * 0.01)
