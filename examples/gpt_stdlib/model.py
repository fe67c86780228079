"""A GPT of one width.

Pre-norm blocks, learned positions, tied head. The only size parameter is ``d_model``; depth stays fixed, so
that all sizes of a sweep differ in one thing.

Under bf16 autocast the same arithmetic takes faster kernels: each weight is cast once, products and attention are
bf16, the residual stream, the norms and the loss stay fp32.
"""

# B batch, T sequence, C d_model, H heads, K head width, V vocabulary, E = 3*C, F = 4*C, M = B*T

import math
from dataclasses import dataclass

import torch
from flops_fit.examples.gpt_stdlib.bf16_on_cpu import PLAIN_ATTENTION_MAX_T, CausalAttention, ChunkedCrossEntropy
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

    def forward(self, x_BTC: Tensor, dtype: torch.dtype) -> Tensor:
        x_BTC = _add(x_BTC, self._attend(self.norm_attention(x_BTC).to(dtype)))
        hidden_BTF = F.gelu(_product(self.norm_mlp(x_BTC).to(dtype), self.mlp_in))
        return _add(x_BTC, _product(hidden_BTF, self.mlp_out))

    def _attend(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        qkv_BTE = _product(x_BTC, self.qkv)
        if _is_bf16_on_cpu(qkv_BTE) and T <= PLAIN_ATTENTION_MAX_T:
            y_BTC = CausalAttention.apply(qkv_BTE, self.n_head)
        else:
            q, k, v = qkv_BTE.view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
            y_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            y_BTC = y_BHTK.transpose(1, 2).reshape(B, T, C)
        return _product(y_BTC, self.attention_out)


class GPT(nn.Module):
    """Decoder-only transformer; ``forward(tokens_BT)`` returns ``logits_BTV``.

    Raises:
        ValueError: If ``d_model`` is not a positive multiple of ``n_head``.
    """

    def __init__(
        self, d_model: int, n_layer: int = 2, n_head: int = 2, vocab_size: int = 256, seq_len: int = 64
    ) -> None:
        super().__init__()
        config = GPTConfig(d_model=d_model, n_layer=n_layer, n_head=n_head, vocab_size=vocab_size, seq_len=seq_len)
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
        device = tokens_BT.device.type
        # The meta device, on which FLOPs are counted, has no autocast and raises when asked for it.
        known = torch.amp.is_autocast_available(device)
        fast = known and torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        if not fast:
            return self._logits(tokens_BT, self.head.weight.dtype)
        with torch.autocast(device, enabled=False):
            return self._logits(tokens_BT, torch.bfloat16)

    def _logits(self, tokens_BT: Tensor, dtype: torch.dtype) -> Tensor:
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTC = self.token_embedding(tokens_BT) + self.position_embedding(positions_T)
        for block in self.blocks:
            x_BTC = block(x_BTC, dtype)
        return _product(self.norm_out(x_BTC).to(dtype), self.head)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 / math.sqrt(module.in_features))
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean negative log likelihood, nats per token."""
    logits_MV, targets_M = logits_BTV.flatten(0, 1), targets_BT.flatten()
    if _is_bf16_on_cpu(logits_MV) and logits_MV.requires_grad:
        loss: Tensor = ChunkedCrossEntropy.apply(logits_MV, targets_M)
        return loss
    return F.cross_entropy(logits_MV.float(), targets_M)


def _product(x: Tensor, linear: nn.Linear) -> Tensor:
    return F.linear(x, linear.weight.to(x.dtype))


def _add(x: Tensor, y: Tensor) -> Tensor:
    # On a CPU fp32 + bf16 takes 1.5 times as long as a conversion and a sum of equal types, to the same bits.
    return y.float().add_(x) if _is_bf16_on_cpu(y) else x + y


def _is_bf16_on_cpu(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"
