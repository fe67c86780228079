import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import REPO

from flops_fit.errors import InputError
from flops_fit.imports.budgets import assign_budgets
from flops_fit.imports.runs import read_runs

DATA = REPO.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")


GOOD = "C,N,D,loss\n6e10,1e4,1e6,3.1\n6e10,2e4,5e5,3.0\n"


def test_columns_by_letter(write):
    runs = read_runs(write(GOOD))
    assert list(runs.num_params) == [1e4, 2e4]
    assert list(runs.num_tokens) == [1e6, 5e5]
    assert list(runs.compute) == [6e10, 6e10]
    assert list(runs.loss) == [3.1, 3.0]
    assert runs.source == ("line 2", "line 3")


@pytest.mark.parametrize(
    "header",
    [
        "flops,params,tokens,loss",
        "FLOPs,Params,Tokens,Loss",
        "compute,num_params,num_tokens,loss",
        "compute_budget,N,D,loss",
    ],
)
def test_columns_by_word(write, header):
    assert list(read_runs(write(GOOD.replace("C,N,D,loss", header))).num_tokens) == [1e6, 5e5]


@pytest.mark.parametrize(
    "text", ["N,D,loss\n1e4,1e6,3\n", "C,N,loss\n6e10,1e4,3\n", "C,D,loss\n6e10,1e6,3\n"], ids=["ND", "CN", "CD"]
)
def test_two_of_c_n_d_suffice(write, text):
    runs = read_runs(write(text))
    assert (runs.compute[0], runs.num_params[0], runs.num_tokens[0]) == pytest.approx((6e10, 1e4, 1e6))


def test_a_planned_budget_stands_beside_the_compute_spent(write):
    runs = read_runs(write("compute_budget,C,N,D,loss\n1e10,9.9e9,1e4,1e5,3\n1e10,9.8e9,2e4,5e4,3\n"))
    assert list(runs.compute_budget) == [1e10, 1e10]
    assert list(runs.compute) == [9.9e9, 9.8e9]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(write):
    assert len(read_runs(write(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()))) == 2


def test_integer_columns_beyond_64_bits_are_multiplied_as_floats(write):
    runs = read_runs(write("N,D,loss\n1000000000000,20000000000000,2.0\n"))
    assert runs.compute[0] == pytest.approx(1.2e26)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("C,N,D,loss\n", "no rows"),
        ("N,D\n1,2\n", "loss"),
        ("N,loss\n1,2\n", "two of C, N and D"),
        ("N,N,D,loss\n1,1,2,3\n", "'N' appears twice"),
        (
            "C,flops,N,loss\n1,2,2,3\n",
            "'C' and 'flops' both mean compute and differ .line 2: 1 and 2.*--columns C=C or C=flops",
        ),
        ("N,D,loss\n1e4,1e6,3,9\n", "line 2: has 4 fields, the header 3"),
        ("N,D,loss\n1e4,1e6\n", "line 2: has 2 fields, the header 3"),
        ("N,D,loss\n70M,1e6,3\n", "line 2.*'70M'.*70e6"),
        ('N,D,loss\n"1,000",1e6,3\n', "line 2.*1,000"),
        ("N,D,loss\n0x10,1e6,3\n", "line 2.*0x10"),
        ("N,D,loss\n1_0,1e6,3\n", "line 2.*1_0"),
        ("N,D,loss\n1e4,1e6,nan\n", "line 2.*loss='nan'"),
        ("N,D,loss\n1e4,1e6,-1\n", "line 2.*loss='-1'"),
        ("N,D,loss\n1e4,0,1\n", "line 2.*D='0'"),
        ("N,D,loss\n1e4,inf,1\n", "line 2.*D='inf'"),
        ("N,D,loss\n1e4,1e6,\n", "line 2: loss is empty"),
        ("C,N,D,loss\n1e10,inf,1e6,3\n", "line 2: N='inf'"),
        ("N,D,loss\n\u0661\u0662,1e6,3\n", "line 2.*not a plain number"),
        ("N,D,loss,lr\n1e4,1e6,3,fast\n", "line 2: lr='fast'"),
        ("N,D,loss,epochs\n1e4,1e6,3,-1\n", "line 2: epochs='-1'"),
        (
            "N,D,loss,loss_std_error\n1e4,1e6,3,.1\n2e4,1e6,3,0\n",
            "line 3: loss_std_error='0', expected a finite number",
        ),
        ("N,D,loss,loss_se\n1e4,1e6,3,-.1\n", "line 2: loss_se='-.1', expected a finite number above 0"),
        ("N,D,loss,loss_stderr\n1e4,1e6,3,\n2e4,1e6,3,inf\n", "line 3: loss_stderr='inf'"),
        ("N,D,loss,loss_stderr\n1e4,1e6,3,\n2e4,1e6,3,few\n", "line 3: loss_stderr='few' is not a plain number"),
        ("N,D,loss,seed\n1e4,1e6,3,x\n", "line 2.*seed='x'"),
        ("N,D,loss,condition\n1,2,3,a\n1,2,3,b\n", "2 conditions.*'a' \\(1 runs\\).*--condition"),
        (b"N,D,loss\n\xff\xfe,1,2\n", "UTF-8"),
        (b"N,D,loss\n1\x00,1,2\n", "NUL"),
    ],
)
def test_bad_input_is_refused_by_line_with_the_reason(write, text, words):
    with pytest.raises(InputError, match=words):
        read_runs(write(text))


def test_bad_rows_can_be_left_out_and_are_listed(write):
    runs = read_runs(write(GOOD + "6e10,1e4,1e6,nan\n"), exclude_bad_rows=True)
    assert len(runs) == 2
    assert [(e.source, "loss='nan'" in e.reason) for e in runs.excluded] == [("line 4", True)]


def test_diverged_runs_are_listed_and_not_an_error(write):
    runs = read_runs(write("N,D,loss,status\n1e4,1e6,3,completed\n2e4,1e6,,diverged\n"))
    assert len(runs) == 1
    assert [(e.source, e.reason) for e in runs.excluded] == [("line 3", "status 'diverged'")]


def test_a_run_with_a_status_and_no_loss_is_listed(write):
    runs = read_runs(write("N,D,loss,status\n1e4,1e6,3,finished\n2e4,1e6,,finished\n"))
    assert [(e.source, e.reason) for e in runs.excluded] == [("line 3", "status 'finished', no loss")]


def test_shifted_rows_can_be_left_out_and_are_listed(write):
    runs = read_runs(write(GOOD + "6e10,3e4,3e5,2.9,7\n"), exclude_bad_rows=True)
    assert len(runs) == 2
    assert [(e.source, e.code) for e in runs.excluded] == [("line 4", "bad_row")]
    assert "has 5 fields, the header 4 (text with commas must be quoted" in runs.excluded[0].reason


def test_only_the_first_ten_bad_rows_are_shown(write):
    bad = "".join(f"{n}e4,1e6,nan\n" for n in range(1, 14))
    with pytest.raises(InputError, match=r"13 of 13 rows.*line 11: .*; and 3 more"):
        read_runs(write("N,D,loss\n" + bad))


def test_exact_repeats_are_dropped_and_listed_by_line(write):
    runs = read_runs(write(GOOD + "6e10,1e4,1e6,3.1\n60000000000,10000,1e6,3.10\n6e10,1e4,1e6,3.2\n"))
    assert list(runs.loss) == [3.1, 3.0, 3.2]
    assert [(e.source, e.code, e.reason) for e in runs.excluded] == [
        ("line 4", "repeated_row", "repeats line 2"),
        ("line 5", "repeated_row", "repeats line 2"),
    ]
    (note,) = (n for n in runs.notes if n.code == "repeated_rows")
    assert note.message == (
        "2 repeated rows (same C, N, D, loss and seed) dropped: line 4 repeats line 2, line 5 repeats line 2."
    )


def test_runs_without_a_group_are_groups_of_their_own(write):
    runs = read_runs(write("N,D,loss,Group\n1e4,1e6,3,a\n2e4,1e6,3,\n3e4,1e6,3,\n4e4,1e6,3,a\n"))
    assert runs.group[0] == runs.group[3] == "a"
    assert len(set(runs.group)) == 3


def test_learning_rates_of_one_cell_are_no_duplicates(write):
    runs = read_runs(write("N,D,loss,lr\n1e4,1e6,3,1e-3\n1e4,1e6,3,2e-3\n"))
    assert list(runs.learning_rate) == [1e-3, 2e-3]


def test_an_optional_column_with_holes_is_not_used_and_said(write):
    runs = read_runs(write("N,D,loss,lr,epochs\n1e4,1e6,3,,\n1e4,2e6,3,2e-3,\n"))
    assert runs.learning_rate is None
    assert [(f.code, "lr is empty for 1 of 2" in f.message) for f in runs.notes] == [("column_incomplete", True)]


@pytest.mark.parametrize("name", ["loss_std_error", "loss_se", "val_loss_stderr", "Loss std error (nats)"])
def test_standard_errors_of_the_loss_may_be_empty_for_some_runs(write, name):
    runs = read_runs(write(f"N,D,loss,{name}\n1e4,1e6,3,.02\n1e4,2e6,3,\n1e4,2e6,3,\n"))
    # Two equal rows without one are repeats.
    assert len(runs) == 2
    assert runs.loss_std_error[0] == 0.02
    assert np.isnan(runs.loss_std_error[1])
    assert "column_incomplete" not in {f.code for f in runs.notes}


def test_bad_rows_of_another_condition_do_not_matter(write):
    runs = read_runs(write("N,D,loss,condition\n1e4,1e6,3,a\n1e4,2e6,nan,b\n"), condition="a")
    assert (len(runs), runs.excluded) == (1, ())


@pytest.mark.parametrize("limit", [float("nan"), 0.0, -1.0])
def test_a_max_compute_that_is_no_positive_number_is_refused(write, limit):
    with pytest.raises(InputError, match="max_compute: got"):
        read_runs(write(GOOD), max_compute=limit)


def test_blank_lines_and_line_ends_in_quotes_keep_the_line_numbers(write):
    with pytest.raises(InputError, match="line 6: D='-1'"):
        read_runs(write('N,D,loss,note\n1e4,1e6,3,"a\nb"\n\n2e4,1e6,3,"a\u2028b"\n1e4,-1,3,x\n'))


def test_a_run_read_before_its_schedule_ended_says_so(write):
    runs = read_runs(write("N,D,loss,schedule_tokens\n1e4,1e6,3,2e6\n1e4,2e6,2.9,2e6\n"))
    assert list(runs.schedule_tokens) == [2e6, 2e6]


def test_seeds_of_one_cell_are_no_duplicates(write):
    runs = read_runs(write("N,D,loss,seed\n1e4,1e6,3,0\n1e4,1e6,3,1\n"))
    assert list(runs.seed) == [0, 1]


def test_one_condition_is_taken_and_an_unknown_one_named(write):
    path = write("N,D,loss,condition\n1,2,3,warm\n1,2,4,cold\n")
    assert list(read_runs(path, condition="cold").loss) == [4.0]
    with pytest.raises(InputError, match="'warm'"):
        read_runs(path, condition="wram")


def test_runs_above_max_compute_are_listed(write):
    runs = read_runs(write("C,N,loss\n1e10,1e4,3\n1e12,1e5,2\n"), max_compute=1e11)
    assert len(runs) == 1
    assert "max_compute" in runs.excluded[0].reason
    with pytest.raises(InputError, match="leaves no run"):
        read_runs(write("C,N,loss\n1e10,1e4,3\n"), max_compute=1e9)


def test_an_overflow_of_6nd_at_64_bits_is_repaired_and_said(write):
    n, d = 48377600, 33009172480
    wrapped = (6 * n * d + 2**63) % 2**64 - 2**63
    assert wrapped < 0
    runs = read_runs(write(f"C,N,D,loss\n{wrapped},{n},{d},3.4\n"))
    assert runs.compute[0] == pytest.approx(6.0 * n * d)
    assert [f.code for f in runs.notes] == ["compute_overflow"]


def test_a_negative_c_that_is_no_overflow_is_refused(write):
    with pytest.raises(InputError, match="C='-5'"):
        read_runs(write("C,N,D,loss\n-5,48377600,33009172480,3.4\n"))


def test_planned_budgets_ten_percent_apart_stay_apart():
    compute = np.repeat([1.0e14, 1.1e14, 1.2e14], 4)
    budget, findings = assign_budgets(compute)
    assert list(budget) == list(compute)
    assert findings == []


def test_budgets_that_scatter_by_some_percent_are_found_again():
    rng = np.random.default_rng(0)
    planned = np.repeat([1e18, 2e18, 4e18, 8e18, 1.6e19], 9)
    budget, findings = assign_budgets(planned * np.exp(rng.uniform(-0.05, 0.05, len(planned))))
    assert len(np.unique(budget)) == 5
    assert np.abs(np.log(budget / planned)).max() < 0.05
    assert [f.code for f in findings] == ["budgets_grouped"]


def test_very_many_runs_of_any_c_are_no_planned_budgets():
    # 20,000 runs over 10 decades: hundreds share their C to 0.2 %, yet nobody planned 10,000 budgets.
    compute = np.exp(np.random.default_rng(0).uniform(np.log(1e14), np.log(1e24), 20_000))
    budget, findings = assign_budgets(compute)
    assert len(np.unique(budget)) < 400
    assert [f.code for f in findings] == ["budgets_grouped"]


@needs_data
def test_the_digitised_isoflops_of_chinchilla_are_found():
    runs = read_runs(DATA / "chinchilla_epoch.csv")
    values, counts = np.unique(runs.compute_budget, return_counts=True)
    # Hoffmann et al. 2022, figure 3: the nine budgets, read off a figure to about a tenth.
    paper = np.array([6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21])
    found = values[counts >= 9]
    assert len(found) == len(paper)
    assert np.abs(np.log(found / paper)).max() < 0.11


@needs_data
@pytest.mark.parametrize(
    ("name", "condition", "rows"),
    [
        ("gemstones", "hot", 220),
        ("olmo_ladder", "c4_en/avg5", 18),
        ("porian_rw_base", "rw/base/short/kaplan/standard/val", 132),
    ],
)
def test_published_tables_load(name, condition, rows):
    assert len(read_runs(DATA / f"{name}.csv", condition=condition)) == rows


CELL = st.sampled_from(
    ["1e4", "6e10", "3", "", "inf", "nan", "-1", "0", "1e308", "9" * 25, "70M", "0x1", "1_0", '"', "x"]
)
ROWS = st.lists(st.lists(CELL, min_size=3, max_size=6).map(",".join), max_size=6).map("\n".join)
HEADER = st.permutations(["C", "N", "D", "loss", "lr", "seed", "status", "compute_budget"]).map(
    lambda names: ",".join(names[:5]) + "\n"
)
NEAR_CSV = st.text(alphabet='NDCloss,;\t.\n\r"0123456789e+-;nainf_ \t\ufeff\x00', max_size=200)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["", "N,D,loss\n1e4,1e6,3\n", "C,N,D,loss\n"]).map(str.encode) | HEADER.map(str.encode),
    st.binary(max_size=200) | NEAR_CSV.map(str.encode) | ROWS.map(str.encode),
    st.booleans(),
)
def test_whatever_the_file_holds_only_an_input_error_comes_out(write, prefix, content, exclude):
    try:
        runs = read_runs(write(prefix + content), exclude_bad_rows=exclude)
    except InputError:
        return
    for column in (runs.compute_budget, runs.compute, runs.num_params, runs.num_tokens, runs.loss):
        assert np.isfinite(column).all()
        assert (column > 0).all()


@pytest.mark.slow
def test_a_million_rows_are_read(write):
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(6, 9, 10**6), 10 ** rng.uniform(8, 11, 10**6)
    rows = "\n".join(f"{a:.6e},{b:.6e},{2 + 400 / a**0.3:.5f}" for a, b in zip(n, d, strict=True))
    assert len(read_runs(write("N,D,loss\n" + rows + "\n"))) == 10**6
