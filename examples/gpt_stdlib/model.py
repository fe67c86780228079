"""A GPT of one width.

Pre-norm blocks, learned positions, tied head. The only size parameter is ``d_model``; depth stays fixed, so
that all sizes of a sweep differ in one thing.

Under bf16 autocast the same arithmetic takes faster kernels: each weight is cast once, products and attention are
bf16, the residual stream, the norms and the loss stay fp32.
"""

# B batch, T sequence, C d_model, H heads, K head width, V vocabulary, A = B*H, F = 4*C, M = B*T

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Up to here the fused CPU attention loses in bf16: 2.8x at T=256 and K=64, 5x at T=128 and K=32 (AVX512-bf16).
PLAIN_ATTENTION_MAX_T = 512
# Logits of one chunk of the loss: 1 MB in fp32, what the second-level cache holds.
CHUNK_ELEMENTS = 2**18


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
        x_BTC = x_BTC + self._attend(self.norm_attention(x_BTC).to(dtype))
        hidden_BTF = F.gelu(_product(self.norm_mlp(x_BTC).to(dtype), self.mlp_in))
        return x_BTC + _product(hidden_BTF, self.mlp_out)

    def _attend(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        K = C // self.n_head
        q, k, v = _product(x_BTC, self.qkv).view(B, T, 3, self.n_head, K).permute(2, 0, 3, 1, 4)
        if x_BTC.device.type == "cpu" and x_BTC.dtype == torch.bfloat16 and T <= PLAIN_ATTENTION_MAX_T:
            masked_TT = torch.full((T, T), -torch.inf, dtype=x_BTC.dtype).triu(1)
            scores_ATT = torch.baddbmm(masked_TT, q.reshape(-1, T, K), k.reshape(-1, T, K).mT, alpha=K**-0.5)
            y_BHTK = (scores_ATT.softmax(-1) @ v.reshape(-1, T, K)).view(B, self.n_head, T, K)
        else:
            y_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return _product(y_BHTK.transpose(1, 2).reshape(B, T, C), self.attention_out)


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
    if logits_MV.dtype == torch.bfloat16 and logits_MV.device.type == "cpu" and logits_MV.requires_grad:
        loss: Tensor = _ChunkedCrossEntropy.apply(logits_MV, targets_M)
        return loss
    return F.cross_entropy(logits_MV.float(), targets_M)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradient of a few rows at a time, in fp32, so that they stay in the cache."""

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, targets_M: Tensor) -> Tensor:
        M, V = logits_MV.shape
        wanted_M = targets_M != -100
        count = wanted_M.sum()
        grad_MV = torch.empty_like(logits_MV)
        total = torch.zeros((), dtype=torch.float32)
        rows = max(1, CHUNK_ELEMENTS // V)
        for start in range(0, M, rows):
            part = slice(start, start + rows)
            wanted = wanted_M[part, None]
            index = targets_M[part, None].clamp(min=0)
            log_p = logits_MV[part].float().log_softmax(1)
            total -= log_p.gather(1, index).mul(wanted).sum()
            grad = log_p.exp_().scatter_add_(1, index, -torch.ones_like(index, dtype=log_p.dtype))
            grad_MV[part] = grad.mul_(wanted / count)
        ctx.save_for_backward(grad_MV)
        return total / count

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grad_MV,) = ctx.saved_tensors
        return grad_MV * grad.to(grad_MV.dtype), None


def _product(x: Tensor, linear: nn.Linear) -> Tensor:
    return F.linear(x, linear.weight.to(x.dtype))
