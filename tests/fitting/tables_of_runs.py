"""Tables of runs for the fitting tests: published ones, read in place, and made ones."""

import csv
from pathlib import Path

import numpy as np
import pytest

from flops_fit.imports.runs import read_runs
from flops_fit.records import RunTable

DATA = Path(__file__).parents[3] / "shared" / "data"


def make_table(num_params, num_tokens, loss, *, compute=None, compute_budget=None, **columns):
    num_params, num_tokens, loss = (np.asarray(c, dtype=np.float64) for c in (num_params, num_tokens, loss))
    compute = 6 * num_params * num_tokens if compute is None else np.asarray(compute, dtype=np.float64)
    count = len(loss)
    columns.setdefault("group", tuple(f"run {i}" for i in range(count)))
    return RunTable(
        compute_budget=compute if compute_budget is None else np.asarray(compute_budget, dtype=np.float64),
        compute=compute,
        num_params=num_params,
        num_tokens=num_tokens,
        loss=loss,
        source=tuple(f"line {i + 2}" for i in range(count)),
        condition=("",) * count,
        seed=np.zeros(count, dtype=np.int64),
        **columns,
    )


def isoflop_table(law, budgets, sizes_per_budget=10, *, reach=4.0, noise=0.0, seed=0, centre=1.0, **columns):
    """Sizes from optimum / reach to optimum * reach at every budget; noise is the sd of log loss."""
    rng = np.random.default_rng(seed)
    budget = np.repeat(np.asarray(budgets, dtype=np.float64), sizes_per_budget)
    spread = np.tile(np.geomspace(1 / reach, reach, sizes_per_budget), len(budgets))
    num_params = law.n_opt(budget) * spread * centre
    num_tokens = np.exp(law.flops.log_tokens(np.log(budget), np.log(num_params)))
    loss = law.loss(num_params, num_tokens) * np.exp(noise * rng.standard_normal(len(budget)))
    return make_table(num_params, num_tokens, loss, compute=budget, compute_budget=budget, **columns)


def group_budgets(compute, within=0.2):
    """Chains of C closer than ``within`` in ln C share a budget, their median; enough for these files."""
    order = np.argsort(compute)
    label = np.concatenate([[0], np.cumsum(np.diff(np.log(compute[order])) > within)])
    budget = np.empty(len(compute))
    for i in range(label.max() + 1):
        budget[order[label == i]] = np.median(compute[order[label == i]])
    return budget


def read_published(name, condition=None, *, grouped=False, keep=lambda row: True):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent: this check needs the published runs")
    with path.open() as lines:
        rows = [r for r in csv.DictReader(lines) if condition in (None, r["condition"]) and keep(r)]
    n, d, loss, c = (np.array([float(r[k]) for r in rows]) for k in ("N", "D", "loss", "C"))
    c = np.where(c > 0, c, 6 * n * d)
    return make_table(n, d, loss, compute=c, compute_budget=group_budgets(c) if grouped else c)


PORIAN = (
    "rw/base/long/kaplan/kaplan/train",
    "rw/base/long/kaplan/attention/train",
    "rw/base/long/kaplan/standard/val",
    "rw/base/short/kaplan/attention/train",
    "rw/base/short/kaplan/standard/val",
    "rw/base/short/chinchilla/attention/train",
    "rw/base/short/chinchilla/standard/val",
)
CHINCHILLA_BUDGETS = np.array([6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21])


def chinchilla_isoflop():
    """The runs of Hoffmann et al.'s nine IsoFLOP budgets: within 25 % of one, others are left out."""
    table = read_published("chinchilla_epoch.csv", keep=lambda row: row["excluded_by_source"] != "True")
    distance = np.abs(np.log(table.compute)[:, None] - np.log(CHINCHILLA_BUDGETS))
    keep = distance.min(axis=1) < np.log(1.25)
    return make_table(
        table.num_params[keep],
        table.num_tokens[keep],
        table.loss[keep],
        compute=table.compute[keep],
        compute_budget=CHINCHILLA_BUDGETS[np.argmin(distance, axis=1)][keep],
    )


GEMSTONES = ("hot", "cool_end", "lr_ablation_hot")


def gemstones(condition):
    """Gemstones as the product reads it: no planned budgets, so C within 15 % make one."""
    path = DATA / "gemstones.csv"
    if not path.exists():
        pytest.skip(f"{path} is absent: this check needs the published runs")
    return read_runs(path, condition=condition)
