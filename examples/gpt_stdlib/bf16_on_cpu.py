"""What eager bf16 is slow at on a CPU, written out: causal attention at short context, and the loss.

The formulas and the roundings are those of the plain operations. What is saved is work on masked scores and memory
traffic: intermediates are made for a few samples or rows at a time, so that they stay in the cache.
"""

# B batch, T sequence, C d_model, H heads, K head width, V vocabulary, A = samples of a group * H, E = 3*C, M = B*T

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Up to here the fused CPU attention loses in bf16: 2.8x at T=256 and K=64, 5x at T=128 and K=32 (AVX512-bf16).
PLAIN_ATTENTION_MAX_T = 512
# Queries that share a range of keys. At T=256 two blocks leave out a quarter of the scores; four would leave out
# three eighths, in products too small to be faster.
BLOCK_T = 128
# Tokens of a group: at d_model=256 and T=256 its queries, keys, values and scores take 3 MB.
GROUP_TOKENS = 1024
# Logits of one chunk of the loss: 1 MB in fp32, what the second-level cache holds.
CHUNK_ELEMENTS = 2**18


class CausalAttention(torch.autograd.Function):
    """``apply(qkv_BTE, n_head)`` returns ``y_BTC``: each block of queries meets the keys up to its end."""

    @staticmethod
    def forward(ctx: Any, qkv_BTE: Tensor, n_head: int) -> Tensor:
        B, T, E = qkv_BTE.shape
        H, K = n_head, E // (3 * n_head)
        masks = [torch.full((e - s, e), -torch.inf, dtype=qkv_BTE.dtype).triu(1 + s) for s, e in _blocks(T)]
        y_BTHK = qkv_BTE.new_empty(B, T, H, K)
        saved = []
        for group in _groups(B, T):
            qkv = qkv_BTE[group].view(-1, T, 3, H, K).permute(2, 0, 3, 1, 4).reshape(3, -1, T, K)
            q_ATK, k_ATK, v_ATK = qkv
            saved.append(qkv)
            for (s, e), mask in zip(_blocks(T), masks, strict=True):
                p = torch.baddbmm(mask, q_ATK[:, s:e], k_ATK[:, :e].mT, alpha=K**-0.5).softmax(-1)
                y_BTHK[group, s:e] = (p @ v_ATK[:, :e]).view(-1, H, e - s, K).transpose(1, 2)
                saved.append(p)
        ctx.save_for_backward(*saved)
        return y_BTHK.view(B, T, H * K)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_BTC: Tensor) -> tuple[Tensor, None]:
        B, T, C = grad_BTC.shape
        saved = iter(ctx.saved_tensors)
        grad_BTE = grad_BTC.new_empty(B, T, 3 * C)
        for group in _groups(B, T):
            qkv = next(saved)
            q_ATK, k_ATK, v_ATK = qkv
            K = q_ATK.shape[-1]
            dy_ATK = grad_BTC[group].view(-1, T, C // K, K).transpose(1, 2).reshape(-1, T, K)
            dqkv = torch.zeros_like(qkv)
            dq_ATK, dk_ATK, dv_ATK = dqkv
            for s, e in _blocks(T):
                p, dy = next(saved), dy_ATK[:, s:e]
                d_scores = torch._softmax_backward_data(dy @ v_ATK[:, :e].mT, p, -1, p.dtype)
                dq_ATK[:, s:e].baddbmm_(d_scores, k_ATK[:, :e], alpha=K**-0.5)
                dk_ATK[:, :e].baddbmm_(d_scores.mT, q_ATK[:, s:e], alpha=K**-0.5)
                dv_ATK[:, :e].baddbmm_(p.mT, dy)
            parts = grad_BTE[group].view(-1, T, 3, C // K, K)
            parts.copy_(dqkv.view(3, -1, C // K, T, K).permute(1, 3, 0, 2, 4))
        return grad_BTE, None


class ChunkedCrossEntropy(torch.autograd.Function):
    """``apply(logits_MV, targets_M)`` returns the mean loss; its gradient is made along with it, in fp32."""

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
            logits = logits_MV[part].float()
            p = logits.softmax(1)
            # log sum exp, from the greatest p: at least 1/V, while that of the target may be too small for a logarithm.
            lse = logits.amax(1, keepdim=True) - p.amax(1, keepdim=True).log()
            total += (lse - logits.gather(1, index)).mul(wanted).sum()
            grad = p.scatter_add_(1, index, -torch.ones_like(index, dtype=p.dtype))
            grad_MV[part] = grad.mul_(wanted / count)
        ctx.save_for_backward(grad_MV)
        return total / count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grad_MV,) = ctx.saved_tensors
        # 1 unless the step is in several parts; a product with 1 costs as much as the optimizer.
        return grad_MV if grad == 1 else grad_MV * grad, None


def _blocks(T: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK_T, T)) for start in range(0, T, BLOCK_T)]


def _groups(B: int, T: int) -> Iterator[slice]:
    samples = max(1, GROUP_TOKENS // T)
    return (slice(start, start + samples) for start in range(0, B, samples))
