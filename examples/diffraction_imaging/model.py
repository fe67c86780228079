"""A U-Net of one size parameter (Ronneberger et al. 2015, arXiv:1505.04597): patterns in, a complex patch out.

Two levels down and up. Its skip connections matter: through a bottleneck alone a network learns slowly here,
because a defocused pattern is a shadow image that lies, pixel for pixel, over the patch.
"""

# B batch, C patterns of a group, N pixels of a side, W width

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flops_fit.errors import ContractError

LEVELS = 2


class UNet(nn.Module):
    """Reconstructs a patch; ``forward(amplitudes)`` (B, C, N, N) returns its real and imaginary part (B, 2, N, N).

    ``width`` is the number of channels at the bottom; each level above has half as many, so it is a multiple of 4.

    Raises:
        ValueError: If ``width`` is not a positive multiple of 4.
    """

    def __init__(self, width: int, in_channels: int = 1) -> None:
        super().__init__()
        if width < 1 or width % 2**LEVELS:
            raise ValueError(f"width={width} is not a positive multiple of {2**LEVELS}")
        self.in_channels = in_channels
        widths = [width // 2 ** (LEVELS - level) for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([in_channels, *widths[:-2]], widths[:-1], strict=True))
        self.bottom = _block(widths[-2], widths[-1])
        self.up = nn.ModuleList(_block(below + w, w) for w, below in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.head = nn.Conv2d(widths[0], 2, 1)

    def num_params(self) -> int:
        """Returns N, the number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, amplitudes: Tensor) -> Tensor:
        shape = tuple(amplitudes.shape)
        if len(shape) != 4 or shape[1] != self.in_channels or shape[-1] % 2**LEVELS or shape[-2] % 2**LEVELS:
            raise ContractError(
                f"UNet: got amplitudes of shape {shape}, expected (batch, {self.in_channels}, N, N) with N a multiple "
                f"of {2**LEVELS}. Take data of this grid size, or set in_channels to their patterns per group."
            )
        x, skips = amplitudes, []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.bottom(x)
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1))
        patch: Tensor = self.head(x)
        return patch


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with a norm over all channels and pixels, and a GELU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.GroupNorm(1, out_channels),
        nn.GELU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.GroupNorm(1, out_channels),
        nn.GELU(),
    )
