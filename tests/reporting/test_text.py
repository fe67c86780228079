"""The table and the summary: numbers are predict()'s, and doubt comes first."""

import subprocess
import sys

import pytest
from fits import lawless_laws, sound_laws, tiny_laws, untrusted_laws

from flops_fit.quantities import format_count, format_flops
from flops_fit.reporting import chinchilla_table, format_summary
from flops_fit.reporting.wording import format_factor


def rows_of(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_rows_are_the_predictions():
    budgets = [1e18, 5.76e23]
    header, _, *rows = rows_of(chinchilla_table(sound_laws(), budgets))
    assert header == ["Compute Budget", "Optimal N", "Optimal D", "D/N Ratio", "Predicted Loss"]
    for compute, row in zip(budgets, rows, strict=True):
        p = sound_laws().predict(compute)
        low, high = p.num_params_interval
        assert row[0].split()[0] == format_flops(compute)
        assert row[1] == f"{format_count(p.num_params)} [{format_count(low)}, {format_count(high)}]"
        assert row[2].startswith(format_count(p.num_tokens))
        assert row[3].startswith(f"{p.tokens_per_param:.3g}")
        assert row[4].startswith(f"{p.loss:.4g}")


@pytest.mark.parametrize("laws", [sound_laws, tiny_laws])
def test_default_budgets_are_round_and_go_to_a_hundred_times_the_largest(laws):
    _, _, *rows = rows_of(chinchilla_table(laws()))
    budgets = [float(row[0].split()[0]) for row in rows]
    assert 7 <= len(budgets) <= 12
    assert {f"{c:e}"[0] for c in budgets} <= {"1", "2", "3", "5"}
    assert budgets[0] < 3.1 * laws().runs.compute_budget.min()
    assert 30 * laws().max_compute <= budgets[-1] <= 100.1 * laws().max_compute


def test_rows_beyond_the_roll_outs_are_marked():
    laws = sound_laws()
    inside, beyond = laws.max_compute * laws.tested_factor, 1e25
    _, _, first, second = rows_of(chinchilla_table(laws, [inside, beyond]))
    assert "*" not in first[0]
    assert "*" in second[0]


def test_the_tested_range_is_the_one_that_predictions_state():
    laws = sound_laws()
    # With 1, 2 and 3 of six budgets hidden, the farthest is three budgets up: 3e20 from 1e19.
    assert laws.tested_factor == pytest.approx(30, rel=1e-6)
    said = [f.message for f in laws.predict(1e24).findings if f.code == "extrapolation"]
    assert any("30" in message for message in said)


def test_the_summary_of_an_untrusted_answer_leads_with_the_warning():
    laws = untrusted_laws()
    for prediction in (None, laws.predict(1e21)):
        text = format_summary(laws, prediction)
        assert text.startswith("DO NOT USE THIS ANSWER: Only 1 budget has a minimum.")
        assert "Add budgets." in text


def test_the_summary_says_when_there_is_no_law():
    assert format_summary(lawless_laws(), None).startswith("DO NOT USE")
    assert "no method gives a number" in chinchilla_table(lawless_laws())


def test_the_summary_holds_the_prediction_beside_the_rule():
    laws = sound_laws()
    p = laws.predict(1e21)
    text = format_summary(laws, p)
    assert format_count(p.num_params) in text
    assert format_count(p.baseline.num_params) in text
    assert "D/N = 20" in text


def test_an_untested_extrapolation_is_said_before_the_numbers():
    laws = sound_laws()
    text = format_summary(laws, laws.predict(1e26))
    assert text.index("backtest") < text.index("At C =")


def test_the_summary_does_not_load_matplotlib():
    code = "import sys, flops_fit.reporting; assert not {'matplotlib', 'jinja2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "text"), [(1.04, "1.04x"), (0.25, "0.25x"), (3.14, "3.1x"), (13.4, "13x"), (2e6, "2.0e6x")]
)
def test_a_factor_near_one_keeps_what_differs_from_one(value, text):
    assert format_factor(value) == text
