"""Verbs that show what there is: doctor, config show."""

import typer

from flops_fit.cli.app import AsJson, ConfigDir, Overrides, app
from flops_fit.console import print_json, print_table

config_app = typer.Typer(help="Show what a command would be configured with.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show what this machine offers, to paste into an issue."""
    from flops_fit.launching import describe_machine

    facts = describe_machine()
    if as_json:
        print_json(facts)
    else:
        print_table(("fact", "value"), [(key, str(value)) for key, value in facts.items()])


@config_app.command("show")
def config_show(overrides: Overrides = None, as_json: AsJson = False, config_dir: ConfigDir = None) -> None:
    """Print the composed configuration with every default."""
    from omegaconf import OmegaConf

    from flops_fit.config import load_config
    from flops_fit.schema import to_plain

    config, _ = load_config(overrides or (), config_dir=config_dir)
    plain = to_plain(config)
    print_json(plain) if as_json else print(OmegaConf.to_yaml(OmegaConf.create(plain)), end="")
