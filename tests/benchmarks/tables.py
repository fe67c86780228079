"""How much more does a run on a `datasets` table cost than the same run on tensors?

    OMP_NUM_THREADS=1 python tests/benchmarks/tables.py [--rounds 5]

The same small Llama, tokens, order and loss; once the samples are the rows of a table (mappings of int32 columns, in
chunks of 1,000 rows, as ``map`` leaves them), once pairs of tensors. Both must end with the same loss. The two take
turns; a figure is the CPU time of a whole `train_one`, the ratio the median over rounds.
"""

import argparse
import statistics
import tempfile
import time

import datasets
import numpy as np
import torch
from torch.utils.data import TensorDataset
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.loss.loss_utils import ForCausalLMLoss

from flops_fit.api import train_one
from flops_fit.data import as_source
from flops_fit.tasks import make_task

VOCAB, ROWS, HELD_OUT = 256, 20_000, 1024
# Name: hidden size, tokens a sample, samples a step, steps.
SHAPES = {"narrow, 32 tokens": (8, 32, 64, 150), "narrow, 128 tokens": (8, 128, 32, 100), "64 wide": (64, 64, 16, 100)}


def make_llama(hidden_size):
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden_size, intermediate_size=3 * hidden_size, num_hidden_layers=2, num_attention_heads=2,
            vocab_size=VOCAB, tie_word_embeddings=True, use_cache=False,
        )
    )  # fmt: skip


def pair_loss(outputs, labels):
    return ForCausalLMLoss(outputs.logits, labels, VOCAB)


def as_table(tokens):
    columns = {"input_ids": tokens.astype(np.int32), "labels": tokens.astype(np.int32)}
    return datasets.Dataset.from_dict(columns).map(lambda rows: rows, batched=True).with_format("torch")


def as_tensors(tokens):
    return TensorDataset(torch.tensor(tokens), torch.tensor(tokens))


def run(shape, data, loss_fn):
    hidden_size, seq_len, batch, steps = shape
    train, held_out = map(as_source, data)
    task = make_task(make_llama, "hidden_size", train_data=train, eval_data=held_out, loss_fn=loss_fn, fingerprint="x")
    recipe = {"batch_tokens": batch * seq_len, "batch_exponent": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = train_one(
            task, hidden_size, batch * seq_len * steps, out=folder, recipe=recipe, train_config={"precision": "fp32"}
        )
        return time.process_time() - start, result.loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    for name, shape in SHAPES.items():
        tokens = np.random.default_rng(0).integers(0, VOCAB, (ROWS + HELD_OUT, shape[1]))
        parts = tokens[:ROWS], tokens[ROWS:]
        contenders = {
            "tensors": ([*map(as_tensors, parts)], pair_loss),
            "table": ([*map(as_table, parts)], None),
        }
        seconds = {who: [] for who in contenders}
        for _ in range(rounds):
            losses = set()
            for who, arguments in contenders.items():
                taken, loss = run(shape, *arguments)
                seconds[who].append(taken)
                losses.add(round(loss, 5))
            assert len(losses) == 1, losses
        ratios = [table / tensors for tensors, table in zip(*seconds.values(), strict=True)]
        medians = ", ".join(f"{who} {statistics.median(values):.2f} s" for who, values in seconds.items())
        print(f"{name}: {medians}, ratio {statistics.median(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
