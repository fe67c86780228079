"""The far field: how light that leaves the object becomes photon counts. This is the physics normalisation.

Counts are Poisson about scale**2 * I, I = |FFT2(P * O)|**2 / N**2, with the zero frequency in the middle. One scale
holds for all patterns of a file, so a dark patch sends fewer photons than a bright one. What is stored,
sqrt(counts) / scale, has the scale of sqrt(I) at any dose: dose enters as noise, not as brightness.
"""

# n patterns, N pixels of a side

import numpy as np
from numpy.typing import NDArray

CHUNK = 4096
"""Patterns that are transformed at once."""


def exit_waves(probe: NDArray[np.complex64], patches: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Returns psi = P * O for patches of shape (..., N, N)."""
    return probe.astype(np.complex128) * patches


def diffract(waves: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Returns the intensity I on the detector; its sum over a pattern is that of |psi|**2 (Parseval)."""
    transform = np.fft.fftshift(np.fft.fft2(waves), axes=(-2, -1))
    return np.abs(transform) ** 2 / (waves.shape[-1] * waves.shape[-2])


def photon_scale(probe: NDArray[np.complex64], patches: NDArray[np.complex64], dose: float) -> float:
    """Returns the scale at which the patches send ``dose`` photons each on average."""
    powers = [
        np.sum(np.abs(exit_waves(probe, patches[i : i + CHUNK])) ** 2, axis=(-2, -1))
        for i in range(0, len(patches), CHUNK)
    ]
    return float(np.sqrt(dose / np.mean(np.concatenate(powers))))


def record_patterns(
    probe: NDArray[np.complex64], patches: NDArray[np.complex64], scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draws photon counts and returns the amplitudes sqrt(counts) / scale, shape (n, N, N)."""
    amplitudes = np.empty(patches.shape, dtype=np.float32)
    for i in range(0, len(patches), CHUNK):
        rates = scale**2 * diffract(exit_waves(probe, patches[i : i + CHUNK]))
        amplitudes[i : i + CHUNK] = np.sqrt(rng.poisson(rates)) / scale
    return amplitudes


def photon_counts(amplitudes: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    """Returns the whole numbers of photons behind stored amplitudes."""
    return np.rint((amplitudes.astype(np.float64) * scale) ** 2)
