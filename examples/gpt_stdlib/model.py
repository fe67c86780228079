"""A GPT of one width.

Pre-norm blocks, learned positions, tied head. The only size parameter is ``d_model``; depth stays fixed, so
that all sizes of a sweep differ in one thing.
"""

# B batch, T sequence, C d_model, H heads, K head width, V vocabulary

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    d_model: int
    n_layer: int = 2
    n_head: int = 2
    vocab_size: int = 256
    seq_len: int = 64


class Block(nn.Module):
    """Causal attention and a GELU MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.n_head = config.n_head
        self.norm_attention = nn.LayerNorm(d_model, bias=False)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.attention_out = nn.Linear(d_model, d_model, bias=False)
        self.norm_mlp = nn.LayerNorm(d_model, bias=False)
        self.mlp_in = nn.Linear(d_model, 4 * d_model, bias=False)
        self.mlp_out = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self._attend(self.norm_attention(x_BTC))
        return x_BTC + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x_BTC))))

    def _attend(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        q, k, v = self.qkv(x_BTC).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        y_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attention_out(y_BHTK.transpose(1, 2).reshape(B, T, C))


class GPT(nn.Module):
    """Decoder-only transformer; ``forward(tokens_BT)`` returns ``logits_BTV``.

    Raises:
        ValueError: If ``d_model`` is not a positive multiple of ``n_head``.
    """

    def __init__(
        self, d_model: int, n_layer: int = 2, n_head: int = 2, vocab_size: int = 256, seq_len: int = 64
    ) -> None:
        super().__init__()
        config = GPTConfig(
            d_model=d_model, n_layer=n_layer, n_head=n_head, vocab_size=vocab_size, seq_len=seq_len
        )
        if d_model <= 0 or d_model % n_head:
            raise ValueError(f"d_model={d_model} is not a positive multiple of n_head={n_head}")
        self.config = config
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(seq_len, d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(n_layer))
        self.norm_out = nn.LayerNorm(d_model, bias=False)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.apply(self._initialise)
        self.head.weight = self.token_embedding.weight
        for block in self.blocks:
            for out in (block.attention_out, block.mlp_out):
                nn.init.normal_(out.weight, std=0.5 / math.sqrt(d_model * 2 * n_layer))

    def num_params(self) -> int:
        """Returns N, the tied table counted once."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, tokens_BT: Tensor) -> Tensor:
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTC = self.token_embedding(tokens_BT) + self.position_embedding(positions_T)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return self.head(self.norm_out(x_BTC))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 / math.sqrt(module.in_features))
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean negative log likelihood, nats per token."""
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())
