"""The loss: squared error of a complex patch, weighted by the light on it and blind to a global phase.

The counts do not change when the whole object is turned by one phase, so no reconstruction can know it.
"""

# B batch, N pixels of a side

import torch
from torch import Tensor

TINY = 1e-12
"""Under the root, whose slope at 0 is infinite: a network that returns zeros still learns."""


def global_phase_free_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns min over phi of sum w |exp(i phi) o^ - o|**2 / sum w |o|**2, the mean over patches.

    The minimum is sum w (|o^|**2 + |o|**2) - 2 |sum w conj(o^) o|. 0 is perfect; a network that returns zeros has 1.
    Each patch has a denominator of its own, so the loss of a batch is the mean of its parts'.

    Args:
        outputs: Real and imaginary part of o^, shape (B, 2, N, N).
        targets: Real and imaginary part of o, and the weight w = |P|**2, shape (B, 3, N, N).
    """
    (a, b), (c, d, w) = outputs.float().unbind(1), targets.float().unbind(1)
    found, truth = (w * (a**2 + b**2)).sum((1, 2)), (w * (c**2 + d**2)).sum((1, 2))
    real, imaginary = (w * (a * c + b * d)).sum((1, 2)), (w * (a * d - b * c)).sum((1, 2))
    common = torch.sqrt(real**2 + imaginary**2 + TINY)
    return ((found + truth - 2 * common) / truth).mean()
