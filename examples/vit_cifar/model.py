"""A vision transformer of one width (Dosovitskiy et al. 2021, arXiv:2010.11929).

Patches are projected, learned positions added, pre-norm blocks applied, and the mean over the patches classified. The
only size parameter is ``embed_dim``; depth and patches stay fixed, so that all sizes of a sweep differ in one thing.
"""

# B batch, I image channels, P patches, Q values of a patch, C embed_dim, K classes, D head width

import math

from torch import Tensor, nn, zeros
from torch.nn import functional as F

from flops_fit.errors import ContractError


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(embed_dim)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.attention_out = nn.Linear(embed_dim, embed_dim)
        self.norm_mlp = nn.LayerNorm(embed_dim)
        self.mlp_in = nn.Linear(embed_dim, 4 * embed_dim)
        self.mlp_out = nn.Linear(4 * embed_dim, embed_dim)

    def forward(self, x_BPC: Tensor) -> Tensor:
        x_BPC = x_BPC + self._attend(self.norm_attention(x_BPC))
        hidden = F.gelu(self.mlp_in(self.norm_mlp(x_BPC)))
        return x_BPC + self.mlp_out(hidden)

    def _attend(self, x_BPC: Tensor) -> Tensor:
        B, P, C = x_BPC.shape
        q, k, v = self.qkv(x_BPC).view(B, P, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        y_BHPD = F.scaled_dot_product_attention(q, k, v)
        y_BPC: Tensor = self.attention_out(y_BHPD.transpose(1, 2).reshape(B, P, C))
        return y_BPC


class VisionTransformer(nn.Module):
    """Image classifier; ``forward(images)`` of shape (B, in_channels, image_size, image_size) returns logits (B, K).

    Raises:
        ValueError: If ``embed_dim`` is not a positive multiple of ``num_heads``, or ``image_size`` not one of
            ``patch_size``.
    """

    def __init__(
        self,
        embed_dim: int,
        num_layers: int = 2,
        num_heads: int = 2,
        patch_size: int = 4,
        image_size: int = 32,
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if min(embed_dim, num_heads) <= 0 or embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} is not a positive multiple of num_heads={num_heads}")
        if patch_size <= 0 or image_size % patch_size:
            raise ValueError(f"image_size={image_size} is not a multiple of patch_size={patch_size}")
        self.patch_size = patch_size
        self.image_shape = (in_channels, image_size, image_size)
        num_patches = (image_size // patch_size) ** 2
        self.patch_embedding = nn.Linear(in_channels * patch_size**2, embed_dim)
        self.position_embedding = nn.Parameter(zeros(num_patches, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        self.apply(_initialise)
        nn.init.normal_(self.position_embedding, std=0.02)
        for block in self.blocks:
            for out in (block.attention_out, block.mlp_out):
                nn.init.normal_(out.weight, std=0.5 / math.sqrt(out.in_features * 2 * num_layers))

    def num_params(self) -> int:
        """Returns N, the number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.image_shape:
            raise ContractError(
                f"VisionTransformer: got images of shape {tuple(images.shape[1:])}, expected {self.image_shape} "
                "(channels, height, width). Resize the images, or set image_size and in_channels to theirs."
            )
        x_BPC = self.patch_embedding(_cut_patches(images, self.patch_size)) + self.position_embedding
        for block in self.blocks:
            x_BPC = block(x_BPC)
        logits_BK: Tensor = self.head(self.norm_out(x_BPC).mean(dim=1))
        return logits_BK


def vit_loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of plain logits (B, K) against class labels (B,), nats per image."""
    return F.cross_entropy(outputs.float(), targets)


def _cut_patches(images: Tensor, size: int) -> Tensor:
    """(B, I, height, width) to (B, P, Q), row by row; a product on these is a convolution with stride ``size``."""
    B, channels, height, width = images.shape
    grid = images.view(B, channels, height // size, size, width // size, size).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(B, -1, channels * size * size)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 / math.sqrt(module.in_features))
        nn.init.zeros_(module.bias)
