"""Reconstructions of a test file, and how far they are from the truth and from what was measured."""

# B groups, N pixels of a side

from pathlib import Path

import numpy as np
import torch
from flops_fit.examples.diffraction_imaging import far_field
from flops_fit.examples.diffraction_imaging.dataset import PatternGroups, load_groups
from numpy.typing import NDArray
from scipy.special import xlogy
from torch import nn

CHUNK = 256
MIN_RATE = 1e-3
"""Photons per pixel that a reconstruction always predicts, as dark counts: one photon in the dark is no infinity."""


def measure_reconstruction(model: nn.Module, test_file: Path, *, gridsize: int) -> dict[str, float]:
    """Reconstructs the first patch of every group and compares; all figures are finite, and 0 is perfect but for noise.

    Returns:
        amplitude_error: Root of the illumination-weighted mean square of |o^| - |o|, over that of |o|; a fraction.
        phase_error: Root of the mean square of the phase of o^ over that of o, weighted by illumination times
            |o|**2, after the global phase that fits best is taken off; radians.
        poisson_deviance: 2 (k ln(k / m) - k + m) of the measured counts k and those m that the reconstruction would
            give, the mean over pixels, no unit. The truth itself has 1 where counts are high (k - m is then normal, of
            variance m: half of it, 0.5 nats, is the log likelihood that noise costs), and less where most are 0.

        The first two are means over patches.

    Raises:
        InputError: If the file breaks the contract.
    """
    groups = load_groups(test_file, gridsize=gridsize)
    found = reconstruct(model, groups)
    first = groups.patterns.groups[:, 0]
    probe, truth = groups.patterns.probe, groups.patterns.truth[first]
    amplitude, phase = patch_errors(found, truth, np.abs(probe) ** 2)
    counts = far_field.photon_counts(groups.patterns.diffraction[first], groups.patterns.scale)
    return {
        "amplitude_error": float(amplitude.mean()),
        "phase_error": float(phase.mean()),
        "poisson_deviance": poisson_deviance(counts, predicted_counts(found, probe, groups.patterns.scale)),
    }


def reconstruct(model: nn.Module, groups: PatternGroups) -> NDArray[np.complex64]:
    """Returns the first patch of every group as the network sees it, shape (B, N, N); the global phase is its own."""
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    was_training = model.training
    model.eval()
    patches = []
    with torch.no_grad():
        for ids in np.array_split(np.arange(groups.num_samples), -(-groups.num_samples // CHUNK)):
            outputs = model(groups.batch(ids)[0].to(device)).float().cpu()
            patches.append(torch.complex(outputs[:, 0], outputs[:, 1]).numpy())
    model.train(was_training)
    return np.concatenate(patches)


def align_phase(
    found_BNN: NDArray[np.complex64], truth_BNN: NDArray[np.complex64], weight_NN: NDArray[np.floating]
) -> NDArray[np.complex128]:
    """Returns the patches, each turned by the one phase that brings it closest to the truth."""
    common = np.sum(weight_NN * np.conj(found_BNN.astype(np.complex128)) * truth_BNN, axis=(1, 2), keepdims=True)
    return found_BNN * np.exp(1j * np.angle(common))


def patch_errors(
    found_BNN: NDArray[np.complex64], truth_BNN: NDArray[np.complex64], weight_NN: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the amplitude error and the phase error of each patch, as `measure_reconstruction` defines them."""
    aligned = align_phase(found_BNN, truth_BNN, weight_NN)
    light = weight_NN * np.abs(truth_BNN.astype(np.complex128)) ** 2
    total = light.sum((1, 2))
    off = weight_NN * (np.abs(aligned) - np.abs(truth_BNN)) ** 2
    turned = light * np.angle(aligned * np.conj(truth_BNN)) ** 2
    return np.sqrt(off.sum((1, 2)) / total), np.sqrt(turned.sum((1, 2)) / total)


def predicted_counts(
    patches_BNN: NDArray[np.complex64], probe: NDArray[np.complex64], scale: float
) -> NDArray[np.float64]:
    """Returns the mean photon counts that these patches would give."""
    return scale**2 * far_field.diffract(far_field.exit_waves(probe, patches_BNN))


def poisson_deviance(counts: NDArray[np.float64], rates: NDArray[np.float64]) -> float:
    """Returns the mean of 2 (k ln(k / m) - k + m) over pixels, for rates m of at least MIN_RATE."""
    rates = np.maximum(rates, MIN_RATE)
    return float(np.mean(2 * (xlogy(counts, counts / rates) - counts + rates)))
