"""A study's trained networks as one picture: what each found, beside the truth.

python -m flops_fit.examples.diffraction_imaging.show_study ARTIFACTS PICTURE.png
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flops_fit.examples.diffraction_imaging.model import LEVELS, UNet
from flops_fit.examples.diffraction_imaging.pictures import Reconstruction, draw_reconstructions
from safetensors import SafetensorError
from safetensors.torch import load_file

from flops_fit.console import print_message
from flops_fit.errors import FlopsFitError, InputError

MANIFEST = "training_manifest.json"


def read_study(artifacts: Path) -> list[Reconstruction]:
    """Returns the network of each completed training in a study's manifest, in its order.

    Raises:
        InputError: If there is no manifest, no completed training in it, or weights that are not those of a U-Net.
    """
    path = artifacts / MANIFEST
    try:
        jobs = json.loads(path.read_text())["jobs"]
        found = [_reconstruction(artifacts, job) for job in jobs if (job.get("result") or {}).get("checkpoint")]
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename}: there is no such file. Name the --artifact-root of a study run."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a manifest of a study ({type(error).__name__}: {error}). Run the study again."
        ) from error
    if not found:
        raise InputError(f"{path}: got no training with a checkpoint, expected one. Run the study with --runner train.")
    return found


def load_network(checkpoint: Path) -> UNet:
    """Returns a network with its weights, of the width and the grid size that they have.

    Raises:
        InputError: If they are not the weights of a U-Net.
    """
    try:
        weights = load_file(checkpoint)
        model = UNet(weights["head.weight"].shape[1] * 2**LEVELS, in_channels=weights["down.0.0.weight"].shape[1])
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, IndexError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: not the weights of this U-Net ({type(error).__name__}: {error}). Train it again."
        ) from error
    return model


def _reconstruction(artifacts: Path, job: dict[str, Any]) -> Reconstruction:
    model = load_network(artifacts / job["result"]["checkpoint"])
    return Reconstruction(model=model, test_file=Path(job["test_data_path"]), gridsize=job["gridsize"])


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("artifacts", type=Path, metavar="ARTIFACTS", help="the --artifact-root of flops-fit study run")
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="file to write, such as study.png")
    parser.add_argument("--patches", type=int, default=3, metavar="N", help="patches of each test file (default: 3)")
    arguments = parser.parse_args(argv)
    try:
        draw_reconstructions(read_study(arguments.artifacts), arguments.picture, num_patches=arguments.patches)
    except FlopsFitError as error:
        print_message(f"error: {error}")
        return error.exit_code
    print(arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
