"""Progress of a sweep: one line per finished run, and a bar where there is a terminal or a notebook."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flops_fit.quantities import format_count, format_flops, format_seconds
from flops_fit.records import Experiment, RunResult
from flops_fit.store import Store


class SweepProgress:
    """Shows on stderr what is about to be trained, each run as it ends, and the time that the rest will take.

    Args:
        store: Of the sweep.
        pending: The runs to train.
    """

    def __init__(self, store: Store, pending: Sequence[Experiment]) -> None:
        plan = store.plan
        self._size_param, self._total = plan.size_param, plan.num_experiments
        self._done = self._total - len(pending)
        kept = f", {self._done} of them already done" if self._done else ""
        self._title = (
            f"{plan.task_name}: {self._total} runs, {format_flops(plan.total_flops)} FLOPs{kept}; {store.root}"
        )
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            disable=not (pending and (self._console.is_terminal or self._console.is_jupyter)),
        )
        self._runs = self._bar.add_task("runs", total=self._total, completed=self._done, left="")

    def __enter__(self) -> Self:
        self._print(self._title)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, result: RunResult, seconds_left: float | None) -> None:
        """Called after each run; None while the time left cannot be estimated yet."""
        self._done += 1
        e = result.experiment
        outcome = f"loss {result.loss:.4f}" if result.loss is not None else f"{result.status}"
        left = "" if seconds_left is None else f"about {format_seconds(seconds_left)} left"
        self._bar.update(self._runs, completed=self._done, left=left)
        self._print(
            f"[{self._done}/{self._total}] C={format_flops(e.compute_budget)} {self._size_param}={e.size_param_value} "
            f"N={format_count(e.num_params)} D={format_count(result.tokens_seen)} {outcome}, "
            f"{result.wall_seconds:.1f} s{', ' if left else ''}{left}"
        )

    def _print(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
