"""What a command prints: JSON or tables to stdout, progress to stderr."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from flops_fit.quantities import count_of, format_bytes, format_count, format_flops, format_seconds

if TYPE_CHECKING:  # numpy would double the time of `flops-fit --help`
    from rich.console import Console

    from flops_fit.records import Experiment, Rejection, SweepPlan
    from flops_fit.store import Store
    from flops_fit.training.estimate import CostEstimate

ENDED = ("completed", "diverged", "failed")
IN_WORK = ("running", "stale")
STYLES = {
    "completed": "green",
    "diverged": "yellow",
    "failed": "red",
    "running": "cyan",
    "stale": "yellow",
    "pending": "",
}
# Of a table that goes to a file or a pipe, where no line has to fit a window.
WIDTH_OF_FILES = 160


def print_plan(plan: "SweepPlan", cost: "CostEstimate | None" = None) -> None:
    """Prints the grid, what was rejected, by reason, and what it costs on this machine."""
    print_table(
        ("budget", plan.size_param, "N", plan.data_unit, "D/N", "steps", "batch", "learning rate"),
        [
            (
                format_flops(e.compute_budget), str(e.size_param_value), format_count(e.num_params),
                format_count(e.num_tokens), f"{e.tokens_per_param:.3g}", str(e.num_steps),
                str(e.recipe.batch_tokens), f"{e.recipe.learning_rate:.2e}",
            )
            for e in plan.experiments
        ],
    )  # fmt: skip
    print()
    _print_rejected(plan)
    print(f"\n{_describe_size(plan)}, counted as {plan.flops_convention}.")
    if cost is not None:
        print(
            f"On this machine, one process in fp32: about {format_seconds(cost.seconds)}, at most "
            f"{format_bytes(cost.peak_memory_bytes)} of {format_bytes(cost.free_memory_bytes)} free memory "
            f"(probe of {count_of(cost.num_sizes_probed, 'size')} in {cost.probe_seconds:.1f} s)."
        )
        if cost.processes:
            print(f"\n{_describe_launch(plan, cost.processes)}")


def print_status(store: "Store") -> None:
    """Prints what has run, per budget, who trains what, what did not complete and why, and how to go on."""
    from flops_fit.claims import run_states, sweep_status

    states, plan = run_states(store), store.plan
    status = sweep_status(store, states)
    ended = sum(status[state] for state in ENDED)
    share = status["flops_done"] / status["flops_total"]
    name = plan.task_name or plan.model_cls_name
    print(f"{store.root}: {name}, {_describe_size(plan)}.")
    shown = [state for state in STYLES if status[state] or state not in IN_WORK]
    counts = ", ".join(f"{status[state]} {state}" for state in shown)
    done = f"{ended} of {count_of(status['total'], 'run')} ended, {share:.0%} of the FLOPs done: {counts}."
    _stdout().print(f"{done}\n", markup=False)
    state_of = {s.experiment.experiment_id: s.state for s in states}
    rows = []
    for budget in plan.compute_budgets:
        runs = [e for e in plan.experiments if e.compute_budget == budget]
        by_state: Counter[str] = Counter(state_of[e.experiment_id] for e in runs)
        rows.append((format_flops(budget), *(str(by_state[state] or "-") for state in shown)))
    print_table(("budget", *shown), rows, styles=("", *(STYLES[state] for state in shown)))
    _print_workers(status)
    for title, key in (("Not completed", "problems"), ("To be resumed", "interrupted")):
        if status[key]:
            print(f"\n{title}:")
            ends = [(p["experiment_id"], p["status"], p["reason"]) for p in status[key]]
            print_table(("run", "outcome", "reason"), ends, justify="left", styles=("", "red", ""))
    print("".join(f"\n{line}" for line in _next_steps(store, status)))


def print_pending(store: "Store", pending: "Sequence[Experiment]", *, as_json: bool = False) -> None:
    """Prints the runs that `flops-fit train` would train."""
    if as_json:
        print_json({"pending": [e.experiment_id for e in pending]})
        return
    rows = [(e.experiment_id, format_flops(e.compute_budget), str(e.size_param_value)) for e in pending]
    print_table(("run", "budget", store.plan.size_param), rows)


def print_json(value: Any) -> None:
    """Prints one JSON object; NaN is refused."""
    print(json.dumps(value, allow_nan=False))


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, justify: Any = "right", styles: Sequence[str] = ()
) -> None:
    """Prints columns that fit the terminal; each column has a style, which shows on a terminal and not on dashes."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, justify=justify, overflow="fold")
    for row in rows:
        chosen = [style if cell != "-" else "" for cell, style in zip(row, styles or [""] * len(row), strict=True)]
        table.add_row(*map(Text, row, chosen))
    _stdout().print(table)


def print_definitions(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Prints names with what they mean beside them, wrapped within the second column."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, meaning in rows:
        table.add_row(Text(f"  {name}", "bold cyan"), Text(meaning))
    console = _stdout()
    console.print(Text(f"{title}:", "bold"))
    console.print(table)
    console.print()


def print_message(message: str) -> None:
    """Writes a message for people, to stderr."""
    print(message, file=sys.stderr, flush=True)


def is_main_process() -> bool:
    """Whether this process writes messages; read from RANK, so that torch need not be imported."""
    return os.environ.get("RANK", "0") == "0"


def _stdout() -> "Console":
    """Rich's console on stdout: as wide as the terminal or COLUMNS; NO_COLOR and pipes have no colour."""
    from rich.console import Console

    is_sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_sized else WIDTH_OF_FILES, highlight=False)


def _describe_size(plan: "SweepPlan") -> str:
    runs, budgets = count_of(plan.num_experiments, "run"), count_of(len(plan.compute_budgets), "budget")
    return f"{runs} at {budgets}, {format_flops(plan.total_flops)} FLOPs"


def _describe_launch(plan: "SweepPlan", processes: "Mapping[str, int]") -> str:
    """Which runs fit on one device each, and what the others need."""
    large = [run for run in plan.experiments if run.experiment_id in processes]
    smallest, most = min(run.num_params for run in large), max(processes.values())
    together = f"--only 'num_params>={smallest}' --launcher torchrun --processes {most} --sharded"
    return (
        f"{count_of(len(large), 'run')} of N >= {format_count(smallest)} do not fit on one device here. Train them "
        f"on {most} together, `flops-fit train DIR {together}`, and the others on one each, `flops-fit train DIR "
        f"--only 'num_params<{smallest}' --workers N`; both at the same time, if you like."
    )


def _print_rejected(plan: "SweepPlan") -> None:
    sizes = [r for r in plan.rejected if r.compute_budget is None]
    pairs = [r for r in plan.rejected if r.compute_budget is not None]
    for rejections, noun in ((sizes, "size"), (pairs, "(size, budget) pair")):
        if rejections:
            print(f"{count_of(len(rejections), noun)} rejected:")
        for _, group in groupby(sorted(rejections, key=lambda r: r.code), key=lambda r: r.code):
            print(f"  {_describe_group(plan.size_param, list(group))}")
    if not plan.rejected:
        print("No (size, budget) pair rejected.")


def _describe_group(size_param: str, rejections: "list[Rejection]") -> str:
    """What was rejected by one rule: how many, which sizes at which budgets, and one of them in full."""
    sizes = sorted({r.size_param_value for r in rejections})
    budgets = sorted({r.compute_budget for r in rejections if r.compute_budget is not None})
    where = f"{size_param}={_span([str(s) for s in sizes])}"
    position = f" at C={_span([format_flops(c) for c in budgets])}" if budgets else ""
    example = "" if len(rejections) == 1 else f"{size_param}={rejections[0].size_param_value} "
    return f"{len(rejections)}: {where}{position}: {example}{rejections[0].reason}"


def _span(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]}..{values[-1]}"


def _print_workers(status: dict[str, Any]) -> None:
    rows = []
    for worker in status["workers"]:
        rate, age = worker["steps_per_second"], worker["beat_age_seconds"]
        rows.append(
            (
                worker["experiment_id"], worker["state"], f"{worker['host'] or '?'}:{worker['pid'] or '?'}",
                str(worker["attempt"]), f"{worker['step'] or 0}/{worker['num_steps']}",
                "-" if rate is None else f"{rate:.3g}", "-" if age is None else f"{format_seconds(age)} ago",
            )
        )  # fmt: skip
    if rows:
        print()
        header = ("run", "state", "worker", "attempt", "step", "steps/s", "heartbeat")
        print_table(header, rows, justify="left", styles=("", "cyan", "", "", "", "", ""))
    if status["seconds_left"] and (status["workers"] or status["pending"]):
        workers = max(1, status["running"])
        print(f"\nAbout {format_seconds(status['seconds_left'])} left with {count_of(workers, 'worker')}.")


def _next_steps(store: "Store", status: dict[str, Any]) -> list[str]:
    steps = []
    if status["pending"] or status["stale"]:
        waiting = count_of(status["pending"] + status["stale"], "pending run")
        steps.append(f"Next: `flops-fit train {store.root}` trains the {waiting}.")
    if status["failed"]:
        steps.append(f"Next: `flops-fit train {store.root} --retry-failed` tries the failed ones again.")
    if status["completed"] and not (status["pending"] or status["running"] or status["stale"]):
        steps.append(f"Next: `flops-fit fit {store.root}` fits scaling laws.")
    return steps
