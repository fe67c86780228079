"""Verbs that show what there is: doctor, config show."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

import flops_fit
from flops_fit.cli.app import AsJson, ConfigDir, Overrides, app
from flops_fit.cli.help import PlanCommand
from flops_fit.cli.paths import check_sweep_folder
from flops_fit.cli.version import source_commit
from flops_fit.console import print_definitions, print_json, print_message
from flops_fit.schema import to_plain

config_app = typer.Typer(help="Show the configuration of a command.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@app.command()
def doctor(
    directory: Annotated[
        Path | None, typer.Argument(help="A folder: also whether several workers may share it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show version, machine and packages, to paste into an issue; try out a folder."""
    import torch

    from flops_fit.claims import try_folder
    from flops_fit.launching.machine import describe_machine
    from flops_fit.memory import free_host_bytes
    from flops_fit.training.engine.precision import half_precision_of
    from flops_fit.training.workers.count import quota_of_cores

    machine = describe_machine()
    quota = quota_of_cores()
    facts = {
        "flops_fit": flops_fit.__version__,
        "commit": source_commit(),
        **machine,
        "precisions": ["fp32", half_precision_of(torch.device(machine["device"]))],
        "cores_quota": quota if math.isfinite(quota) else None,
        "memory_free_bytes": free_host_bytes(),
    }
    if directory is not None:
        check_sweep_folder(directory)
        abilities = try_folder(directory)
        facts["folder"] = {**to_plain(abilities), "several_workers": abilities.several_workers}
        if not abilities.several_workers:
            print_message(
                f"{directory}: this file system has no hard links or no atomic replacement. One worker alone may train "
                "in it; several need a local disk, NFS or Lustre."
            )
        if abilities.is_world_writable:
            print_message(f"{directory}: everyone may write here, and could change results. Use `chmod o-w`.")
    if as_json:
        print_json(facts)
    else:
        print_definitions("flops-fit doctor", [(key, _shown(key, value)) for key, value in facts.items()])


@config_app.command("show", cls=PlanCommand)
def config_show(overrides: Overrides = None, as_json: AsJson = False, config_dir: ConfigDir = None) -> None:
    """Print the composed configuration with every default."""
    from omegaconf import OmegaConf

    from flops_fit.config import load_config
    from flops_fit.schema import to_plain

    config, _ = load_config(overrides or (), config_dir=config_dir)
    plain = to_plain(config)
    print_json(plain) if as_json else print(OmegaConf.to_yaml(OmegaConf.create(plain)), end="")


def _shown(key: str, value: Any) -> str:
    if value is None or value == []:
        return "none"
    if key == "gpus":
        return ", ".join(f"{gpu['name']} ({gpu['memory_bytes'] / 2**30:.1f} GiB)" for gpu in value)
    if key.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(name, inner)}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
