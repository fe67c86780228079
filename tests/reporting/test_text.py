"""The table and the summary: the verdict comes first, the numbers are predict()'s, and lines fit the terminal."""

import subprocess
import sys
from dataclasses import replace

import pytest
from fits import doubtful_laws, hostile_laws, lawless_laws, sound_laws, tiny_laws, untrusted_laws

from flops_fit.quantities import format_count, format_flops
from flops_fit.records import ExcludedRun
from flops_fit.reporting import chinchilla_table, format_summary


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


def test_rows_beyond_the_backtests_are_marked():
    laws = sound_laws()
    inside, beyond = laws.max_compute * laws.tested_factor, 1e25
    _, _, first, second = rows_of(chinchilla_table(laws, [inside, beyond]))
    assert "*" not in first[0]
    assert "*" in second[0]


def test_the_tested_range_is_the_one_that_predictions_state():
    laws = sound_laws()
    # With 1, 2 and 3 of six budgets hidden, the farthest is three budgets up: 3e20 from 1e19.
    assert laws.tested_factor == pytest.approx(30, rel=1e-6)
    messages = [f.message for f in laws.predict(1e24).findings if f.code == "extrapolation"]
    assert any("30" in message for message in messages)


@pytest.mark.parametrize("at", [None, 1e21])
def test_the_summary_of_an_untrusted_answer_leads_with_the_error_and_its_code(at):
    laws = untrusted_laws()
    text = format_summary(laws, None if at is None else laws.predict(at))
    assert text.startswith("DO NOT USE THIS ANSWER: Only 1 budget has a minimum.")
    assert text.index("few_budgets: ") < text.index("Add budgets.") < text.index("For reference only, the fit gives:")
    assert text.index("For reference only") < text.index("N_opt ~ C^a")


def test_the_summary_of_a_doubtful_answer_leads_with_a_line_for_each_warning():
    headline, *rest = format_summary(doubtful_laws(), None, width=80).splitlines()
    assert headline.startswith("Use with care: 2 warnings")
    assert [line.split(":")[0].strip() for line in rest[:2]] == ["flat_valley", "few_seeds"]
    assert rest[2] == ""
    # The full text stands below the numbers, so the reasons on top are cut to one line.
    assert rest[0].endswith(" ...")
    assert "wide, wide" in "\n".join(rest[3:])


def test_the_summary_of_a_sound_answer_leads_with_the_verdict():
    laws = replace(sound_laws(), findings=())
    assert format_summary(laws, None).startswith(laws.trust.headline)


def test_the_table_begins_with_the_verdict_and_its_reasons():
    text = chinchilla_table(untrusted_laws())
    assert text.startswith("**DO NOT USE THIS ANSWER: Only 1 budget has a minimum.**")
    assert text.index("`few_budgets`") < text.index("For reference only, the fit gives:") < text.index("Compute Budget")
    assert chinchilla_table(doubtful_laws()).startswith("**Use with care: 2 warnings")


def test_without_a_law_there_is_a_verdict_and_no_table():
    assert format_summary(lawless_laws(), None).startswith("DO NOT USE")
    text = chinchilla_table(lawless_laws())
    assert "no method could be fitted" in text
    assert "Compute Budget" not in text


def test_the_summary_holds_the_prediction_beside_the_rule():
    laws = sound_laws()
    p = laws.predict(1e21)
    text = format_summary(laws, p)
    assert format_count(p.num_params) in text
    assert format_count(p.baseline.num_params) in text
    assert "D/N = 20" in text


def test_an_untested_extrapolation_is_reported_before_the_numbers():
    laws = sound_laws()
    text = format_summary(laws, laws.predict(1e26))
    assert text.index("backtest") < text.index("At C =")


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_of_the_summary_is_wider_than_the_terminal(width):
    laws = hostile_laws()
    text = format_summary(laws, laws.predict(1e21), width=width)
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_wide_terminal_shows_the_methods_and_a_narrow_one_their_names_alone():
    wide, narrow = (format_summary(sound_laws(), None, width=width) for width in (200, 80))
    assert "Windowed Approach 3" in wide
    assert "Windowed Approach 3" not in narrow
    for text in (wide, narrow):
        assert all(f"  {name} " in text for name in sound_laws().laws)


def test_the_summary_takes_its_width_from_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert format_summary(sound_laws(), None) == format_summary(sound_laws(), None, width=70)


@pytest.mark.parametrize(
    ("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_is_for_terminals_that_want_it(monkeypatch, environment, colored):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "\x1b[" not in format_summary(sound_laws(), None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert ("\x1b[" in format_summary(sound_laws(), None)) == colored


def test_excluded_runs_are_listed_with_code_and_reason():
    run = ExcludedRun(source="line 3", code="outlier", reason="far off")
    assert "  line 3 (outlier): far off" in format_summary(replace(sound_laws(), runs_excluded=(run,)), None)


def test_a_refused_law_is_listed_as_not_fitted_with_its_reason():
    laws = sound_laws()
    law = replace(laws.laws["approach2"], a=None, b=None, outcome="refused", reason="one budget only")
    text = format_summary(replace(laws, laws={**laws.laws, "approach2": law}), None)
    assert "  approach2: not fitted; one budget only" in text


def test_the_summary_does_not_load_matplotlib():
    code = "import sys, flops_fit.reporting; assert not {'matplotlib', 'jinja2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
