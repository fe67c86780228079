import json
import os
import subprocess
import sys

import pytest
from small_sweep import SMALL


def test_run_leaves_plan_results_fit_and_report(sweep_dir):
    for name in ("config.yaml", "plan.json", "results.csv", "fit.json", "report/index.html"):
        assert (sweep_dir / name).is_file(), name
    assert len(list((sweep_dir / "results").iterdir())) == 20


def test_run_again_trains_nothing_and_prints_one_json_object(sweep_dir, call):
    before = sorted(p.stat().st_mtime_ns for p in (sweep_dir / "results").iterdir())
    code, out, _ = call("run", *SMALL, f"out={sweep_dir}", "--json", "--strict")
    printed = json.loads(out)
    assert printed["trust"] == printed["prediction"]["trust"]
    assert code == (5 if printed["trust"]["level"] == "no" else 0)
    assert printed["status"]["completed"] == 20
    assert printed["prediction"]["compute"] == 1.6e10
    assert before == sorted(p.stat().st_mtime_ns for p in (sweep_dir / "results").iterdir())


def test_run_in_a_folder_of_another_configuration_is_refused(sweep_dir, call):
    before = {p: p.read_bytes() for p in sweep_dir.rglob("*") if p.is_file()}
    code, _, err = call("run", *SMALL, "sweep.recipe.schedule=cosine", f"out={sweep_dir}")
    assert code == 2
    assert "holds another sweep" in err
    assert before == {p: p.read_bytes() for p in sweep_dir.rglob("*") if p.is_file()}


def test_status_counts_the_runs(sweep_dir, call):
    code, out, _ = call("status", sweep_dir, "--json")
    assert code == 0
    status = json.loads(out)
    assert status.pop("flops_done") == status.pop("flops_total") > 0
    assert status == {
        "completed": 20, "diverged": 0, "failed": 0, "running": 0, "stale": 0, "pending": 0, "total": 20,
        "workers": [], "problems": [], "interrupted": [], "seconds_left": 0.0,
    }  # fmt: skip


def test_train_of_a_finished_sweep_has_nothing_to_do(sweep_dir, call):
    assert call("train", sweep_dir)[0] == 0


def test_fit_prints_the_json_of_the_design(runs_csv, call):
    code, out, _ = call("fit", runs_csv, "--json")
    assert code == 0
    fitted = json.loads(out)
    assert {"recommended", "laws", "runs_used", "runs_excluded", "findings", "backtest"} <= set(fitted)
    assert {"approach2", "approach3", "extended"} <= set(fitted["laws"])
    law = fitted["laws"]["approach3"]
    assert law["alpha"] == pytest.approx(0.34, abs=1e-3)
    assert law["E"] == pytest.approx(1.69, abs=1e-3)
    assert fitted["runs_used"] == 48


def test_predict_prints_the_json_of_the_design(runs_csv, call):
    code, out, _ = call("predict", runs_csv, "--compute", "1e21", "--json")
    assert code == 0
    predicted = json.loads(out)
    assert {
        "compute", "num_params", "num_params_interval", "num_tokens", "num_tokens_interval", "loss",
        "loss_interval", "level", "extrapolation_factor", "law", "baseline",
    } <= set(predicted)  # fmt: skip
    # The closed form of Hoffmann et al. 2022, equation 4.
    g = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
    assert predicted["num_params"] == pytest.approx(g * (1e21 / 6) ** (0.28 / 0.62), rel=0.1)
    low, high = predicted["num_params_interval"]
    assert low < predicted["num_params"] < high


def test_options_of_the_fit_are_given_as_key_value(runs_csv, call):
    code, out, _ = call("fit", runs_csv, "law=approach3", "fit.level=0.8", "--json")
    assert code == 0
    assert json.loads(out)["recommended"] == "approach3"


@pytest.mark.parametrize(
    ("option", "words"),
    [("huber_dleta=1", "huber_delta"), ("level=2", "level"), ("level", "key=value"), ("law=approach9", "approach3")],
)
def test_a_wrong_option_of_the_fit_is_refused(runs_csv, call, option, words):
    code, _, err = call("fit", runs_csv, option)
    assert code == 2
    assert words in err


def test_fit_answers_people_too(runs_csv, call):
    code, out, _ = call("fit", runs_csv)
    assert code == 0
    assert "approach3" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "sede=1"], "seed"),
        (["run", "sweep=smal"], "small"),
        (["run", "sweep.compute_budgets=[10.0]"], "no model size fits"),
        (["plan", "task.factory=nope"], "module:function"),
        (["fit", "missing.csv"], "missing.csv"),
        (["predict", "missing.csv", "--compute", "1e20"], "missing.csv"),
        (["status", "."], "plan.json"),
        (["train", "."], "config.yaml"),
    ],
)
def test_wrong_input_ends_in_2_with_a_message_and_writes_nothing(call, tmp_path, argv, words):
    code, out, err = call(*argv)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["nan", "-1", "inf", "0", ""])
def test_a_bad_row_is_refused_by_line_number(call, runs_csv, bad):
    lines = runs_csv.read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:3], bad])
    runs_csv.write_text("\n".join(lines) + "\n")
    code, _, err = call("fit", runs_csv)
    assert code == 2
    assert "line 8" in err


def test_a_repeated_row_is_dropped_and_listed_by_line_number(call, runs_csv):
    lines = runs_csv.read_text().splitlines()
    runs_csv.write_text("\n".join([*lines, lines[5]]) + "\n")
    code, out, _ = call("fit", runs_csv, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["runs_used"] == len(lines) - 1
    assert f"line {len(lines) + 1} repeats line 6" in next(
        f["message"] for f in answer["findings"] if f["code"] == "repeated_rows"
    )


def test_columns_are_named_by_option(call, runs_csv):
    plain = json.loads(call("fit", runs_csv, "--json")[1])
    runs_csv.write_text(runs_csv.read_text().replace("C,N,D,loss", "C,weights,D,goodness"))
    code, out, _ = call("fit", runs_csv, "--columns", "loss=goodness,N=weights", "--json")
    assert code == 0
    assert json.loads(out)["laws"] == plain["laws"]
    code, _, err = call("fit", runs_csv, "--columns", "loss=godness")
    assert code == 2
    assert "Did you mean 'goodness'?" in err


@pytest.mark.parametrize("budget", ["-1", "0", "nan", "inf"])
def test_a_budget_that_is_no_positive_number_is_refused(call, runs_csv, budget):
    code, _, err = call("predict", runs_csv, "--compute", budget)
    assert code == 2
    assert "compute" in err


def test_plan_shows_the_grid_and_writes_nothing(call, tmp_path):
    code, out, _ = call("plan", *SMALL)
    assert code == 0
    assert "20 runs at 5 budgets" in out
    assert list(tmp_path.iterdir()) == []


def test_config_show_prints_every_default(call):
    code, out, _ = call("config", "show", "sweep=smoke", "--json")
    assert code == 0
    assert json.loads(out)["sweep"]["recipe"]["beta1"] == 0.9


def test_help_and_fit_do_not_import_torch(runs_csv):
    code = (
        "import sys; from flops_fit.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
        "assert sys.argv[1] != '--help' or not {'numpy', 'hydra', 'omegaconf'} & set(sys.modules)"
    )
    for argv in (
        ["--help"],
        ["fit", str(runs_csv), "--json"],
        ["predict", str(runs_csv), "--compute", "1e21"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "flops_fit", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "90"},
    )
    assert done.returncode == 0
    for verb in ("run", "plan", "train", "status", "fit", "predict", "report"):
        assert verb in done.stdout
