"""The probe: a soft disc of light with a defocused, that is curved, wavefront."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

DIAMETER = 0.6
"""Of the disc, as a fraction of the patch."""
DEFOCUS = 1.0
"""At 1 the far field is a shadow image of the object, one detector pixel for one object pixel."""
EDGE = 0.5
"""Width of the disc's soft edge, pixels."""


def make_probe(patch: int, *, diameter: float = DIAMETER, defocus: float = DEFOCUS) -> NDArray[np.complex64]:
    """Returns the probe on ``patch`` x ``patch`` pixels, of unit mean power: the mean of |P|**2 is 1.

    Its phase is pi * defocus * r**2 / patch, r in pixels from the centre. Without that curvature the far field of a
    patch is a spectrum, which a small network with skip connections cannot relate to its neighbours' places.
    """
    axis = np.arange(patch) - (patch - 1) / 2
    r = np.hypot(axis[:, None], axis[None, :])
    disc = expit((diameter * patch / 2 - r) / EDGE)
    probe = disc * np.exp(1j * np.pi * defocus * r**2 / patch)
    return (probe / np.sqrt(np.mean(np.abs(probe) ** 2))).astype(np.complex64)
