"""Placement: a model on its device, with equal weights on several processes, or sharded over them."""

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from flops_fit.distributed import World
from flops_fit.errors import ModelFailed


def place(model: nn.Module, world: World) -> nn.Module:
    """Moves a model to the device with the main process' weights, or shards it over several processes.

    Raises:
        ModelFailed: If it cannot be sharded.
    """
    if world.is_sharded:
        return _shard(model, world)
    model = model.to(world.device)
    world.copy_from_main([*model.parameters(), *model.buffers()])
    return model


def _shard(model: nn.Module, world: World) -> nn.Module:
    """Splits the layers of a model over all processes, each layer of an ``nn.ModuleList`` on its own.

    With torch's FSDP2 itself: Accelerate shards on GPUs only, and together with an optimizer that it prepares.
    """
    types = sorted({str(p.dtype) for p in model.parameters()})
    if len(types) > 1:
        raise ModelFailed(
            f"a sharded model (FSDP): got parameters of the types {', '.join(types)}, expected one type. "
            "Train it as copies: start it without --use_fsdp."
        )
    mesh = init_device_mesh(world.device.type, (world.size,))
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model
