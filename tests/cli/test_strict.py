"""--strict ends in 5 where the answer is not to be trusted."""

import contextlib
import json
import math

import pytest
import typer

from flops_fit.cli.fits import exit_unless_trusted
from flops_fit.fitting.trust import Trust


@pytest.fixture
def rising_csv(tmp_path):
    """Runs whose loss rises with size, as no law of scaling does."""
    rows = ["C,N,D,loss"]
    for budget in (1e18, 3e18, 1e19, 3e19, 1e20):
        for factor in (0.3, 0.6, 1.0, 1.7, 3.0):
            n = (budget / 120) ** 0.5 * factor
            rows.append(f"{budget},{n},{budget / 6 / n},{2 + 0.1 * math.log(n)}")
    path = tmp_path / "rising.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_an_untrusted_fit_is_printed_and_ends_in_5(call, rising_csv):
    code, out, err = call("fit", rising_csv, "--json", "--strict")
    trust = json.loads(out)["trust"]
    assert (code, trust["level"]) == (5, "no")
    assert trust["headline"] in err


def test_a_trusted_prediction_ends_in_0_with_strict(call, runs_csv):
    code, out, _ = call("predict", runs_csv, "--compute", "1e21", "--strict", "--json")
    trust = json.loads(out)["trust"]
    assert trust.keys() == {"level", "headline", "reasons"}
    assert trust["level"] != "no"
    assert code == 0


@pytest.mark.parametrize(
    ("level", "strict", "code"), [("no", True, 5), ("no", False, 0), ("care", True, 0), ("ok", True, 0)]
)
def test_only_level_no_ends_in_5_and_only_with_strict(level, strict, code):
    trust = Trust(level=level, headline="A headline.", reasons=())
    with pytest.raises(typer.Exit) if code else contextlib.nullcontext() as stop:
        exit_unless_trusted(trust, strict)
    assert code == 0 or stop.value.exit_code == code
