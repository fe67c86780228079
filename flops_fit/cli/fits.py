"""Verbs that fit runs and predict: fit, predict, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flops_fit.cli.app import AsJson, Strict, app
from flops_fit.cli.help import FitCommand
from flops_fit.cli.paths import check_output_file, check_source
from flops_fit.console import print_json, print_message

if TYPE_CHECKING:
    from flops_fit.fitting.trust import Trust
    from flops_fit.result import Result

NOT_TRUSTED = 5

Source = Annotated[Path, typer.Argument(help="A sweep's folder, or a CSV, JSONL or Parquet file of runs.")]
Condition = Annotated[str | None, typer.Option(help="Condition of the file to fit.")]
MaxCompute = Annotated[float | None, typer.Option(help="Exclude runs above this many FLOPs.")]
ExcludeBad = Annotated[
    bool, typer.Option("--exclude-bad-rows", help="List bad rows as excluded instead of refusing the file.")
]
Columns = Annotated[
    str | None,
    typer.Option(help="Columns of the file by quantity, such as loss=val_loss,N=params.", metavar="KEY=COLUMN"),
]
FitOverrides = Annotated[
    list[str] | None, typer.Argument(help="Options of the fit, key=value, such as huber_delta=1e-4 law=approach3.")
]


@app.command(cls=FitCommand)
def fit(
    source: Source,
    overrides: FitOverrides = None,
    condition: Condition = None,
    max_compute: MaxCompute = None,
    exclude_bad_rows: ExcludeBad = False,
    columns: Columns = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Fit scaling laws to a sweep or to anyone's table of runs."""
    from flops_fit.reporting import format_summary

    result = _load(source, overrides, condition, max_compute, exclude_bad_rows, columns)
    result.write_fit()
    if as_json:
        print_json(result.laws.to_plain())
    else:
        print(format_summary(result.laws, None))
    exit_unless_trusted(result.laws.trust, strict)


@app.command(cls=FitCommand)
def predict(
    source: Source,
    compute: Annotated[float, typer.Option(help="Training FLOPs of the model to plan for, such as 1e21.")],
    overrides: FitOverrides = None,
    law: Annotated[str | None, typer.Option(help="Law to use instead of the recommended one.")] = None,
    condition: Condition = None,
    max_compute: MaxCompute = None,
    exclude_bad_rows: ExcludeBad = False,
    columns: Columns = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Predict the compute-optimal size, tokens and loss at one budget."""
    from flops_fit.reporting import format_summary

    result = _load(source, overrides, condition, max_compute, exclude_bad_rows, columns)
    prediction = result.predict(compute, law=law)
    if as_json:
        print_json(prediction.to_plain())
    else:
        print(format_summary(result.laws, prediction))
    exit_unless_trusted(prediction.trust, strict)


@app.command()
def report(
    source: Source,
    overrides: FitOverrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file, replaced where there is one; by default DIR/report/index.html or report.html."),
    ] = None,
    condition: Condition = None,
    max_compute: MaxCompute = None,
    exclude_bad_rows: ExcludeBad = False,
    columns: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Write the evidence as one HTML file."""
    path = out or (source / "report" / "index.html" if source.is_dir() else Path("report.html"))
    check_output_file(path)
    written = _load(source, overrides, condition, max_compute, exclude_bad_rows, columns).report(path)
    print_json({"report": str(written)}) if as_json else print(written)


def exit_unless_trusted(trust: "Trust | None", strict: bool) -> None:
    """With ``--strict`` ends in 5 where the answer is not to be trusted.

    That is level "no" alone: "care" means that the answer can be used by someone who reads its warnings, and nearly
    every sweep has one.
    """
    if strict and trust is not None and trust.level == "no":
        print_message(f"--strict: {trust.headline}")
        raise typer.Exit(NOT_TRUSTED)


def _load(source: Path, overrides: list[str] | None, *selection: Any) -> "Result":
    from flops_fit.imports.columns import parse_columns
    from flops_fit.result import load_result

    check_source(source)
    names = ("condition", "max_compute", "exclude_bad_rows", "columns")
    values = dict(zip(names, selection, strict=True))
    values["columns"] = parse_columns(values["columns"]) if values["columns"] else None
    return load_result(source, overrides=overrides or (), **values)
