"""The page of a run: its first line, what a choice costs, and that it shows what the metrics hold."""

import copy
import html

import pytest

from flops_fit.pipeline.metrics import outcome
from flops_fit.pipeline.report import difference_cost, make_page, verdict

PREDICTION = {"loss": 2.0, "interval": [1.9, 2.1], "level": 0.9, "num_tokens": 1536, "about": ""}


@pytest.fixture
def trusted(metrics):
    """The metrics of a run whose law was trusted, and whose checks were all judged."""
    found = copy.deepcopy(metrics)
    found["fit"] |= {"trusted": True, "reason": "No check found a reason to doubt these runs."}
    found["prediction"], found["outcome"] = PREDICTION, outcome(PREDICTION, 2.05, None)
    for check in found["validation"]["checks"]:
        check["passed"] = True
    return found


def test_the_outcome_is_held_against_the_interval():
    assert outcome(PREDICTION, 2.1, None)["inside_interval"] is True
    assert outcome(PREDICTION, 2.1001, None)["inside_interval"] is False
    assert outcome(PREDICTION, 1.8999, None)["inside_interval"] is False
    assert outcome(None, 2.0, None)["inside_interval"] is None


def test_the_first_line_says_what_came_of_the_prediction_and_of_the_limits(trusted):
    assert verdict(trusted)["level"] == "ok"
    assert "inside the interval" in verdict(trusted)["text"]
    trusted["outcome"] = outcome(PREDICTION, 2.5, None)
    assert verdict(trusted)["level"] == "no"
    assert "OUTSIDE" in verdict(trusted)["text"]
    trusted["validation"]["checks"][0]["passed"] = False
    assert "Limits missed: unigram_ratio" in verdict(trusted)["text"]


def test_a_law_that_is_not_trusted_is_the_first_thing_on_the_page(metrics, finished):
    page = make_page(metrics, finished)
    first = page.split("<main>")[1].split("</p>")[0]
    assert "not trusted" in first
    assert "0 judged" not in first


def test_what_was_not_judged_is_not_called_met(metrics, finished):
    page = make_page(metrics, finished)
    for check in metrics["validation"]["checks"]:
        row = page.split(f"<tr><td>{check['name']}</td>")[1].split("</tr>")[0]
        assert (">met<" in row) == (check["passed"] is True)


def test_the_page_shows_samples_of_each_language_and_escapes_them(metrics, finished):
    metrics["validation"]["samples"][0]["text"] = metrics["validation"]["samples"][0]["prompt"] + " <script>"
    page = make_page(metrics, finished)
    assert "<script>" not in page
    for lang in ("en", "es"):
        sample = next(s for s in metrics["validation"]["samples"] if s["lang"] == lang)
        assert html.escape(sample["prompt"], quote=False) in page


@pytest.mark.parametrize(
    ("difference", "factor", "expected"),
    [
        (-0.0001, 1.0, "are equal"), (0.004, 1.01, "are equal"), (0.5, 2.7, "with 2.7x less compute"),
        (0.5, None, "0.500 nats per token worse"),
    ],
)  # fmt: skip
def test_what_a_choice_costs_is_said_only_where_it_costs_something(difference, factor, expected):
    assert expected in difference_cost({"loss_difference": difference, "compute_factor": factor})
    assert difference_cost(None) is None
