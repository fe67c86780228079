import math
import re
from itertools import pairwise

import pytest

from flops_fit.errors import ConfigError, PlanError
from flops_fit.planning.checks import check_plan
from flops_fit.planning.feasibility import Limits
from flops_fit.planning.isoflop import Subject, plan_isoflop
from flops_fit.planning.recipe import RecipeRule, recipe_for
from flops_fit.planning.settings import SweepSettings, candidate_sizes
from flops_fit.records import ModelProbe
from flops_fit.store import plan_hash

SUBJECT = Subject(model_cls_name="Square", size_param="width")
BUDGETS = (1e9, 1e10, 1e11, 1e12, 1e13)


def probe(width, flops_per_token=None):
    """A square layer: N = width^2."""
    return ModelProbe(
        size_param_value=width,
        num_params=width * width,
        num_params_non_embedding=width * width,
        flops_per_token=flops_per_token,
    )


PROBES = [probe(w) for w in range(8, 4096, 8)]


def plan(probes=PROBES, **settings):
    settings.setdefault("compute_budgets", BUDGETS)
    return plan_isoflop(probes, SweepSettings(**settings), SUBJECT)


def test_every_run_spends_its_budget_to_within_one_sample():
    for e in plan().experiments:
        assert e.compute_budget - e.flops_per_token < e.flops_per_token * e.num_tokens <= e.compute_budget


def test_six_flops_per_parameter_and_token_by_default():
    assert all(e.flops_per_token == 6 * e.num_params for e in plan().experiments)


def test_a_third_of_the_flops_per_token_is_three_times_the_tokens():
    six = {(e.compute_budget, e.num_params): e.num_tokens for e in plan(PROBES[:40]).experiments}
    two = plan(PROBES[:40], flops_per_param_per_token=2.0).experiments
    shared = [
        (e.num_tokens, six[e.compute_budget, e.num_params]) for e in two if (e.compute_budget, e.num_params) in six
    ]
    assert shared
    for tokens_two, tokens_six in shared:
        assert tokens_two == pytest.approx(3 * tokens_six, abs=3)


def test_measured_flops_set_the_tokens():
    measured = [probe(w, flops_per_token=100.0 * w) for w in (16, 32, 64, 128)]
    for e in plan(measured, flops_per_param_per_token="measured", compute_budgets=(1e9,)).experiments:
        assert e.num_tokens == math.floor(1e9 / (100.0 * e.size_param_value))


def test_no_run_has_fewer_than_a_tenth_of_a_token_per_parameter():
    crowded = plan([probe(w) for w in (1024, 1536, 4000)], compute_budgets=(1e13,))
    assert all(e.tokens_per_param >= 0.1 for e in crowded.experiments)
    assert {r.size_param_value for r in crowded.rejected} == {4000}


def test_a_budget_holds_each_size_once_and_no_more_sizes_than_asked():
    sweep = plan(num_sizes_per_budget=5)
    for budget in BUDGETS:
        sizes = [e.size_param_value for e in sweep.experiments if e.compute_budget == budget]
        assert len(sizes) == len(set(sizes)) == 5


def test_sizes_lie_around_the_guessed_optimum_evenly_in_log_n():
    sweep = plan(center_tokens_per_param=20.0, half_width=8.0, compute_budgets=(1e13,))
    guess = math.sqrt(1e13 / 6 / 20)
    logs = [math.log(e.num_params / guess) for e in sweep.experiments]
    # A factor 8 in N on both sides, to within one step of the width.
    assert min(logs) == pytest.approx(-math.log(8), abs=0.1)
    assert max(logs) == pytest.approx(math.log(8), abs=0.1)
    steps = [b - a for a, b in pairwise(logs)]
    assert max(steps) / min(steps) < 1.3


def test_adding_a_budget_renames_no_run():
    before = {e.experiment_id for e in plan().experiments}
    after = {e.experiment_id for e in plan(compute_budgets=(*BUDGETS, 1e14)).experiments}
    assert before < after


def test_another_learning_rate_is_another_run():
    before = {e.experiment_id for e in plan().experiments}
    after = {e.experiment_id for e in plan(recipe=RecipeRule(max_learning_rate=0.005)).experiments}
    assert not before & after


def test_a_setting_that_is_off_renames_no_older_run():
    # As before recipes had an average of the weights and an optimizer; with what was the default learning rate then.
    recipe = RecipeRule(learning_rate=0.0047, max_learning_rate=0.01)
    assert plan_hash(plan(recipe=recipe)) == "932cdecd448b"


@pytest.mark.parametrize(("num_params", "rate"), [(1000, 0.03), (50_000, 0.0055), (108e6, 0.0047), (108e9, 0.00047)])
def test_the_default_learning_rate_falls_with_n_from_measured_values_to_the_published_law(num_params, rate):
    model = ModelProbe(size_param_value=8, num_params=int(num_params), num_params_non_embedding=int(num_params))
    assert recipe_for(RecipeRule(), model, 1).learning_rate == rate


def test_beyond_its_table_the_default_learning_rate_follows_the_published_exponent():
    big, bigger = (
        ModelProbe(size_param_value=8, num_params=n, num_params_non_embedding=n) for n in (10**12, 8 * 10**12)
    )
    rates = [recipe_for(RecipeRule(), model, 1).learning_rate for model in (big, bigger)]
    assert rates[0] / rates[1] == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(("name", "value"), [("ema_decay", 0.999), ("optimizer", "muon"), ("schedule", "cosine")])
def test_another_average_optimizer_or_schedule_is_another_run(name, value):
    before = {e.experiment_id for e in plan().experiments}
    changed = plan(recipe=RecipeRule(**{name: value})).experiments
    assert all(getattr(e.recipe, name) == value for e in changed)
    assert not before & {e.experiment_id for e in changed}


def test_a_budget_that_no_size_fits_is_refused_with_sizes_and_limit():
    with pytest.raises(PlanError, match=r"1\.00e3 FLOPs.*width=64.*min_tokens_per_param"):
        plan([probe(64), probe(128)], compute_budgets=(1e3,))


def named_budget(error):
    return float(re.search(r"smallest budget that fits is ([0-9.e-]+)\.", str(error.value))[1])


@pytest.mark.parametrize(
    ("limits", "subject", "budget"),
    [
        (Limits(), {}, 1e3),
        (Limits(min_tokens_per_param=7.3, max_tokens_per_param=200), {}, 1e6),
        (Limits(min_steps=300), {}, 1e6),
        (Limits(min_steps=300, min_tokens_per_param=20), {"tokens_per_sample": 96}, 1e6),
        (Limits(max_epochs=4), {"unique_tokens": 50_000, "tokens_per_sample": 16}, 1e3),
    ],
)
def test_the_smallest_budget_that_fits_is_named_and_it_is_the_smallest(limits, subject, budget):
    subject = Subject(model_cls_name="Square", size_param="width", **subject)

    def at(c):
        settings = SweepSettings(compute_budgets=(c,), limits=limits, recipe=RecipeRule(batch_tokens=512))
        return plan_isoflop([probe(w) for w in (24, 48, 100)], settings, subject)

    with pytest.raises(PlanError, match="Raise the budget to it") as error:
        at(budget)
    smallest = named_budget(error)
    assert smallest > budget
    assert at(smallest).experiments
    # It is rounded up to three digits.
    with pytest.raises(PlanError):
        at(smallest * 0.98)


def test_the_default_sizes_at_budgets_of_a_small_model_name_what_would_fit():
    settings = SweepSettings(compute_budgets=(1e6,))
    sizes = [probe(w) for w in candidate_sizes(settings)]
    assert (sizes[0].size_param_value, sizes[-1].size_param_value) == (64, 8192)
    # 64^2 parameters: a tenth of a token for each is 410 tokens, 20 for each are 81,920, at 6 N FLOPs a token.
    words = r"smallest budget that fits is 1\.01e7\. .*the smallest size takes 2\.01e9\), .*min_size is 64"
    with pytest.raises(PlanError, match=words):
        plan_isoflop(sizes, settings, SUBJECT)


def test_a_budget_that_is_too_large_is_to_be_lowered_to_one_that_fits():
    settings = {"limits": Limits(max_tokens_per_param=10), "compute_budgets": (1e12,)}
    with pytest.raises(PlanError, match="Lower the budget, add larger sizes") as error:
        plan([probe(24)], **settings)
    assert plan([probe(24)], **{**settings, "compute_budgets": (named_budget(error),)}).experiments


def test_limits_that_no_budget_meets_are_said_to_be_the_reason():
    limits = Limits(min_tokens_per_param=20, max_tokens_per_param=10)
    with pytest.raises(PlanError, match="No budget fits these sizes and limits"):
        plan([probe(24)], limits=limits, compute_budgets=(1e9,))


def test_repeating_the_data_too_often_is_refused():
    subject = Subject(model_cls_name="Square", size_param="width", unique_tokens=1000)
    settings = SweepSettings(compute_budgets=(1e9,), limits=Limits(max_epochs=4))
    with pytest.raises(PlanError, match="max_epochs=4"):
        plan_isoflop([probe(64)], settings, subject)


def test_candidates_are_multiples_within_the_range():
    sizes = candidate_sizes(SweepSettings(min_size=64, max_size=100))
    assert sizes == [64]
    wide = candidate_sizes(SweepSettings())
    assert wide[0] == 64
    assert wide[-1] == 8192
    assert all(s % 64 == 0 for s in wide)
    assert wide == sorted(set(wide))


def test_a_range_without_a_multiple_is_refused():
    with pytest.raises(PlanError, match="size_multiple"):
        candidate_sizes(SweepSettings(min_size=65, max_size=100))


def test_few_budgets_and_few_sizes_are_found_before_training():
    codes = {f.code for f in check_plan(plan([probe(64), probe(128)], compute_budgets=(1e9, 1e10)))}
    assert codes == {"few_budgets", "few_sizes"}


def test_data_seen_more_than_four_times_is_found_before_training():
    sweep = plan()
    most = max(e.num_tokens for e in sweep.experiments)
    assert "epochs_above_four" not in {f.code for f in check_plan(sweep, unique_tokens=most)}
    assert "epochs_above_four" in {f.code for f in check_plan(sweep, unique_tokens=most // 5)}


@pytest.mark.parametrize("bad", [{"num_sizes_per_budget": 0}, {"max_size": 1}, {"compute_budgets": (-1.0,)}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        SweepSettings(**bad)


def test_the_plan_says_its_size_and_cost():
    sweep = plan()
    assert sweep.num_experiments == len(sweep.experiments)
    assert sweep.total_flops == pytest.approx(7 * sum(BUDGETS), rel=0.01)
    assert "35 experiments, 5 budgets" in repr(sweep)
