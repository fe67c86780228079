"""The loss of a GPT: cross entropy of the next token, over the targets that count."""

from flops_fit.examples.gpt_stdlib import cross_entropy
from torch import Tensor


def gpt_loss_fn(outputs: Tensor | tuple[Tensor, ...], targets_BT: Tensor) -> Tensor:
    """Mean negative log likelihood in nats per token; targets of -100, padding, are left out.

    The targets are already shifted: ``targets[t]`` is the token after ``inputs[t]``.

    Args:
        outputs: Logits, shape (B, T, V), or a tuple that begins with them, such as ``(logits, None)``.
        targets_BT: int64, shape (B, T).
    """
    logits_BTV = outputs[0] if isinstance(outputs, tuple) else outputs
    return cross_entropy(logits_BTV, targets_BT)
