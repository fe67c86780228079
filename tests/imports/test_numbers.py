"""Decimal commas: read where nothing else can be meant, refused where something can."""

import pytest

from flops_fit.errors import InputError
from flops_fit.imports.runs import read_runs


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_read_where_they_are_clear(write, delimiter):
    text = "C;N;loss;note\n1,5E+18;70000000;3,214;v1.2, new\n1,5E+18;1,4E+08;3,2;\n".replace(";", delimiter)
    runs = read_runs(write(text))
    assert (list(runs.compute), list(runs.num_params), list(runs.loss)) == ([1.5e18] * 2, [7e7, 1.4e8], [3.214, 3.2])
    assert ("info", "decimal_comma") in [(n.level, n.code) for n in runs.notes]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("70000000;1400000000;3,214", r"loss='3,214' \(line 2\) may be 3214 or 3.214"),
        ("70000000;1,400;3,21", r"D='1,400' \(line 2\) may be 1400 or 1.400"),
        ("70.000.000;1,4e9;3,21", "has a comma and N='70.000.000' .line 2. a point"),
        ("7e7;1.4e9;3,21", "D='1.4e9' .line 2. a point"),
        ("70,000,000;1,4e9;3,21", "N='70,000,000' is not a plain number .*no thousands separators"),
        ("70 000 000;1,4e9;3,21", "N='70 000 000' is not a plain number"),
        ("7e7;1,4e9;3%", "loss='3%' is not a plain number"),
    ],
)
def test_unclear_commas_are_refused_with_what_to_write(write, row, words):
    with pytest.raises(InputError, match=words):
        read_runs(write(f"N;D;loss\n{row}\n"))
