"""Commands of torchrun and `accelerate launch`, as lists of words."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flops_fit.errors import ConfigError
from flops_fit.launching.options import LaunchOptions

# How long processes that were asked to stop have to reach a common step and write a checkpoint. torchrun itself waits
# for 30 s; SLURM ends a job at its limit or at the end of its grace time in any case.
GRACE_SECONDS = 300
# torchrun's own and SIGUSR1, which else ends it at once and leaves its processes behind.
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, without a shell."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that are set already."""


def launcher_command(
    options: LaunchOptions, environment: Mapping[str, str], *, python: str = sys.executable
) -> Command:
    """Returns the command that starts ``options.processes`` processes of `flops-fit train` on this node.

    Args:
        options: With the launcher torchrun or accelerate.
        environment: Of this process. In a SLURM step of several nodes it says which of them this is.
        python: The interpreter that is started.

    Raises:
        ConfigError: If such a step does not say where its first node is.
    """
    train = ("-m", "flops_fit", "train", str(options.directory), *options.train_options)
    variables = {"PET_SHUTDOWN_TIMEOUT": str(GRACE_SECONDS), "PET_SIGNALS_TO_HANDLE": SIGNALS}
    if options.launcher == "accelerate":
        _refuse_many_nodes(environment)
        config = packaged_launch() / "accelerate" / ("fsdp.yaml" if options.sharded else "ddp.yaml")
        launch = ("-m", "accelerate.commands.launch", "--config_file", str(config))
        # Port 0 is any free one: two launches on one machine do not meet.
        chosen = ("--num_processes", str(options.processes), "--main_process_port", "0")
        return Command(argv=(python, *launch, *chosen, *train), environment=variables)
    if options.sharded:
        variables |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    world = (*_nodes(environment), "--nproc-per-node", str(options.processes))
    return Command(argv=(python, "-m", "torch.distributed.run", *world, *train), environment=variables)


def packaged_launch() -> Path:
    """Returns the folder ``launch/``, also from an installed wheel."""
    spec = importlib.util.find_spec("flops_fit.launch")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _nodes(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Torchrun's options for this node: alone, or one of those of a SLURM step with one task on each."""
    count = _nodes_of_step(environment)
    if count == 1:
        return ("--standalone", "--nnodes", "1")
    if environment.get("SLURM_STEP_NUM_TASKS") != str(count):
        raise ConfigError(
            f"srun started {environment.get('SLURM_STEP_NUM_TASKS')} tasks on {count} nodes; torchrun is started once "
            "on each node and starts the processes there. Use `srun --ntasks-per-node=1`, as "
            "launch/slurm/multi_node.sbatch does."
        )
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if not address or not port:
        raise ConfigError(
            f"this SLURM step has {count} nodes, and MASTER_ADDR and MASTER_PORT do not say where its first node "
            "listens. Export them before srun, as launch/slurm/multi_node.sbatch does."
        )
    # Ranks by SLURM's count: with torchrun's own agreement (c10d) each node guesses from the address whether it is
    # the first, and none is where the address belongs to another interface than the node's name.
    node = ("--nnodes", str(count), "--node-rank", environment.get("SLURM_NODEID", "0"))
    return (*node, "--master-addr", address, "--master-port", port)


def _refuse_many_nodes(environment: Mapping[str, str]) -> None:
    count = _nodes_of_step(environment)
    if count > 1:
        raise ConfigError(
            f"--launcher accelerate: this SLURM step has {count} nodes, expected one. Use --launcher torchrun, which "
            "joins the nodes of a step, also with --sharded."
        )


def _nodes_of_step(environment: Mapping[str, str]) -> int:
    return int(environment.get("SLURM_STEP_NUM_NODES", "1"))
