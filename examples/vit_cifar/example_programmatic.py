"""A vision transformer on CIFAR-10, from Python: what scales, on which images, over which grid.

python examples/vit_cifar/example_programmatic.py                               # simulated losses, seconds
python examples/vit_cifar/example_programmatic.py --real --data fashion-mnist:FOLDER   # trains 36 models, minutes
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flops_fit.examples import reference
from flops_fit.examples.vit_cifar import VisionTransformer, vit_loss_fn
from flops_fit.examples.vit_cifar.shapes import RenderedShapes
from flops_fit.examples.vit_cifar.sources import Source, find_source

from flops_fit.data import as_source
from flops_fit.tasks import Task, make_task

if TYPE_CHECKING:
    from flops_fit.result import Result

DATA_HELP = "'fashion-mnist:FOLDER', 'digits', 'shapes' (synthetic), or a folder with a copy of CIFAR-10 (default: hub)"


def make_model_factory(
    *,
    num_layers: int = 2,
    num_heads: int = 2,
    patch_size: int = 4,
    image_size: int = 32,
    in_channels: int = 3,
    num_classes: int = 10,
) -> Callable[[int], VisionTransformer]:
    """Returns ``vit(embed_dim)``: a vision transformer of that width and this shape."""

    def vit(embed_dim: int) -> VisionTransformer:
        return VisionTransformer(embed_dim, num_layers, num_heads, patch_size, image_size, in_channels, num_classes)

    return vit


def _make_synthetic_dataset(num_images: int = 1_000_000, seed: int = 0) -> RenderedShapes:
    """Returns images of the shape of CIFAR-10's, each rendered when it is read."""
    return RenderedShapes(num_images=num_images, seed=seed)


def make_image_task(
    source: Source, *, num_layers: int = 2, num_heads: int | None = None, patch_size: int | None = None
) -> Task:
    """Puts model, images and loss together; None takes the heads and the patches of the source."""
    train, held_out = source.load()
    factory = make_model_factory(
        num_layers=num_layers,
        num_heads=source.num_heads if num_heads is None else num_heads,
        patch_size=source.patch_size if patch_size is None else patch_size,
        image_size=source.image_size,
        in_channels=source.in_channels,
        num_classes=source.num_classes,
    )
    return make_task(
        factory,
        "embed_dim",
        train_data=as_source(train),
        eval_data=as_source(held_out),
        loss_fn=vit_loss_fn,
        name=f"ViT on {source.name}",
    )


def run(
    real: bool = False,
    data: str | None = None,
    output_dir: str | Path | None = None,
    *,
    seed: int = 0,
    num_layers: int = 2,
    num_heads: int | None = None,
    patch_size: int | None = None,
    **grid: Any,
) -> "Result":
    """Sweeps the width of the vision transformer and returns the fitted laws.

    Args:
        real: True trains; False simulates the losses, without a forward pass.
        data: None for CIFAR-10 from the hub (synthetic shapes where nothing is trained); "fashion-mnist:FOLDER",
            "digits", "shapes", or a folder with a copy of CIFAR-10.
        output_dir: Folder of the sweep.
        seed: Of weights, data order and simulated noise.
        num_layers, num_heads, patch_size: Shape of the model; None takes the heads and the patches of the source.
        **grid: Settings in place of the preset's: budgets, min_size, max_size, size_multiple, num_sizes.
    """
    source = find_source(data if data is not None else "cifar10" if real else "shapes")
    settings = reference.sweep_settings(source.preset, **grid)
    task = make_image_task(source, num_layers=num_layers, num_heads=num_heads, patch_size=patch_size)
    default_dir = "outputs/vit_" + source.name.lower().replace(" ", "_").replace("-", "_")
    return reference.sweep(task, settings, real=real, output_dir=output_dir, default_dir=default_dir, seed=seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it with the flags of every reference family; returns the exit code."""
    return reference.run_command(run, reference.make_parser(__doc__.splitlines()[0], data_help=DATA_HELP), argv)


if __name__ == "__main__":
    sys.exit(main())
