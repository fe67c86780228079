"""Result of a finished sweep, or of anyone's table of runs: predictions, tables, figures, a report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flops_fit.errors import ConfigError, InputError
from flops_fit.files import replace_file
from flops_fit.fitting import FitOptions, Prediction, ScalingLaws, fit
from flops_fit.imports.runs import read_runs, select_runs
from flops_fit.records import Finding, RunResult, RunTable, SweepPlan
from flops_fit.reporting import chinchilla_table, format_summary, save_figures, summary_html, write_report
from flops_fit.reporting.formatting import format_fitted
from flops_fit.schema import build
from flops_fit.store import Store, open_store, plan_hash


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A fitted sweep: ask it for a prediction, a table, plots or a report."""

    laws: ScalingLaws
    plan: SweepPlan | None = None
    """None for runs that someone else trained."""
    run_results: tuple[RunResult, ...] | None = None
    output_dir: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> RunTable:
        """The runs that entered the fit."""
        return self.laws.runs

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What to know before believing a number."""
        return self.laws.findings

    def predict(self, compute: float, *, law: str | None = None) -> Prediction:
        """Predicts the compute-optimal size, tokens and loss at ``compute`` FLOPs."""
        return self.laws.predict(compute, law=law)

    def chinchilla_table(self, compute_budgets: Sequence[float] | None = None) -> str:
        """Returns a markdown table: budget, optimal N and D, D/N, predicted loss."""
        return chinchilla_table(self.laws, compute_budgets)

    def plot(self, directory: str | Path | None = None) -> tuple[Path, ...]:
        """Saves every figure as SVG and PNG and returns their paths; by default under the output folder."""
        return save_figures(self.laws, Path(directory) if directory else self._folder() / "plots")

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the report as one HTML file and returns its path."""
        return write_report(
            self.laws,
            Path(path) if path else self._folder() / "report" / "index.html",
            plan=self.plan,
            results=self.run_results,
            provenance=self.provenance,
        )

    def write_fit(self) -> None:
        """Writes ``fit.json`` into the sweep's folder, where there is one."""
        if self.output_dir is not None:
            text = json.dumps(self.laws.to_plain(), indent=1, allow_nan=False) + "\n"
            replace_file(self.output_dir / "fit.json", text.encode())

    def _folder(self) -> Path:
        return self.output_dir or Path.cwd()

    def __str__(self) -> str:
        return format_summary(self.laws, None)

    def __repr__(self) -> str:
        where = "a table of runs" if self.output_dir is None else str(self.output_dir)
        lines = [self.laws.trust.headline]
        if self.laws.recommended is not None:
            law = self.laws.laws[self.laws.recommended]
            lines.append(f"N_opt ~ C^{format_fitted(law.a)}, D_opt ~ C^{format_fitted(law.b)} ({law.name})")
        lines.append(f"{len(self.runs)} runs at {len(self.laws.isoflop_curves)} budgets, from {where}")
        return "Result(" + "\n       ".join(lines) + ")"

    def _repr_html_(self) -> str:
        return summary_html(self.laws)


def load_runs(
    path: str | Path,
    *,
    condition: str | None = None,
    max_compute: float | None = None,
    exclude_bad_rows: bool = False,
    columns: Mapping[str, str] | None = None,
) -> RunTable:
    """Reads the runs of a sweep's folder, or of a CSV, JSON, JSONL or Parquet file.

    Args:
        path: A sweep's folder or a file.
        condition: Which condition of the file to take.
        max_compute: Leave out runs above this many FLOPs.
        exclude_bad_rows: List bad rows as excluded instead of refusing the file.
        columns: The file's column by quantity, such as ``{"loss": "val_loss", "N": "params"}``; others are found by
            their names.

    Raises:
        InputError: If the path cannot be read as runs; the message names lines and reasons.
    """
    path = Path(path)
    if path.is_dir():
        if columns:
            raise InputError(
                f"{path}: --columns is for a file of runs, and this is the folder of a sweep. Leave it out."
            )
        return select_runs(open_store(path).run_table(), condition=condition, max_compute=max_compute)
    return read_runs(
        path, condition=condition, max_compute=max_compute, exclude_bad_rows=exclude_bad_rows, columns=columns
    )


def load_result(
    path: str | Path, *, options: FitOptions | None = None, overrides: Sequence[str] = (), **selection: Any
) -> Result:
    """Fits the runs found at ``path``.

    Args:
        path: A sweep's folder or a file of runs.
        options: Of the fit; None for those of the folder's ``config.yaml``, or the defaults.
        overrides: ``key=value`` on top of them, such as ``huber_delta=1e-4``.
        selection: As in `load_runs`.

    Raises:
        ConfigError: If an override names no option or gives it a wrong value.
        InputError: If the path cannot be read as runs.
        FitError: If the runs support no fit at all.
    """
    path = Path(path)
    runs = load_runs(path, **selection)
    if options is None:
        options = _fit_options(path / "config.yaml", overrides)
    laws = fit(runs, options=options)
    stated = {key: value for key, value in selection.items() if value not in (None, False)}
    if stated.get("columns"):
        stated["columns"] = ", ".join(f"{key}={column}" for key, column in stated["columns"].items())
    if overrides:
        stated["fit options"] = " ".join(overrides)
    if not path.is_dir():
        return Result(laws=laws, provenance={"runs file": path.name, **stated})
    store = open_store(path)
    return Result(
        laws=laws,
        plan=store.plan,
        run_results=store.results(),
        output_dir=store.root,
        provenance={**_origin(store), **stated},
    )


def _fit_options(config: Path, overrides: Sequence[str]) -> FitOptions:
    """The ``fit`` group of a sweep's configuration with overrides on top; no other group is looked at."""
    wrong = [o for o in overrides if "=" not in o]
    if wrong:
        raise ConfigError(f"got {wrong[0]!r}, expected key=value, such as huber_delta=1e-4.")
    try:
        saved = OmegaConf.load(config) if config.is_file() else OmegaConf.create()
        given = OmegaConf.from_dotlist([o.removeprefix("fit.") for o in overrides])
        assert isinstance(saved, DictConfig)
        values = OmegaConf.to_container(OmegaConf.merge(saved.get("fit") or {}, given), resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"the options of the fit are not readable: {error}") from error
    assert isinstance(values, dict)
    return build(FitOptions, {str(key): value for key, value in values.items()}, path="fit")


def _origin(store: Store) -> dict[str, Any]:
    plan = store.plan
    settings = ", ".join([f"{plan.size_param}=...", *(f"{k}={v}" for k, v in plan.model_kwargs.items())])
    return {
        "plan": plan_hash(plan),
        "task": plan.task_name,
        "task fingerprint": plan.task_fingerprint,
        "model": f"{plan.model_cls_name}({settings})",
        "N": "all parameters, shared ones once",
        "D": f"training {plan.data_unit}, as seen",
        "C": f"budgets planned with FLOPs counted as {plan.flops_convention}; spent FLOPs as measured on the model",
    }
