"""How fast is the engine beside the loops that people use? Each reference is written here, so that it can be read.

    python tests/benchmarks/engine.py [--sizes micro 1M 4M] [--rounds 9] [--repeats 3] [--json FILE]

Contenders stay warm and take turns, a few steps each. A turn costs the CPU time of its own thread (on a GPU: wall
time after a synchronisation), a ratio is of two turns of one round, and the figure is the median over rounds; with
``--repeats`` the whole is started again, and the median of those medians counts. One thread each; memory is kept by
the allocator instead of given back, since which contender pays for page faults is else a matter of turns.
"""

import argparse
import dataclasses
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from flops_fit.examples.gpt_stdlib import GPT, cross_entropy
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from flops_fit.launching import open_world
from flops_fit.records import Experiment, Recipe
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings
from flops_fit.training.engine_choice import choose_engine
from flops_fit.training.loop import train_model

VOCAB = 2048
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "100000000",
}  # fmt: skip
NEVER = 10**6  # steps; the benchmark stops first


@dataclasses.dataclass(frozen=True)
class Size:
    n_layer: int
    d_model: int
    n_head: int
    batch: int
    seq_len: int
    steps: int  # per turn


SIZES = {
    "micro": Size(4, 32, 1, 8, 16, 100),
    "0.1M": Size(2, 64, 4, 8, 128, 10),
    "1M": Size(4, 128, 4, 16, 256, 2),
    "4M": Size(4, 256, 4, 16, 256, 1),
    "15M": Size(8, 384, 6, 8, 256, 1),
    "124M": Size(12, 768, 12, 16, 1024, 2),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class PlainBlock(nn.Module):
    """nanoGPT's block: fused qkv, scaled_dot_product_attention, erf-GELU, no biases."""

    def __init__(self, size):
        super().__init__()
        C = size.d_model
        self.n_head = size.n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.qkv, self.out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.up, self.down = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.n_head, -1).transpose(1, 2) for y in self.qkv(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class PlainGPT(nn.Module):
    """A user's model: nanoGPT's recipe, nothing in it for speed."""

    def __init__(self, d_model, size):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, d_model), nn.Embedding(size.seq_len, d_model)
        self.blocks = nn.ModuleList(PlainBlock(size) for _ in range(size.n_layer))
        self.ln = nn.LayerNorm(d_model, bias=False)
        self.head = nn.Linear(d_model, VOCAB, bias=False)
        self.head.weight = self.wte.weight
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


class Micro(nn.Sequential):
    """Four layers of width 32: nearly all of a step is the loop around it."""

    def __init__(self, d_model, size):
        super().__init__(*(m for _ in range(size.n_layer) for m in (nn.Linear(d_model, d_model), nn.Tanh())))


def token_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Subject:
    """A model, data and loss of one size, the same for all contenders."""

    def __init__(self, name):
        self.name, self.size = name, SIZES[name]
        size, rng = self.size, torch.Generator().manual_seed(0)
        if name == "micro":
            x = torch.randn(512, size.seq_len, size.d_model, generator=rng)
            self.data, self.loss, self.model_cls = (x, torch.roll(x, 1, 0)), F.mse_loss, Micro
        else:
            tokens = torch.randint(VOCAB, (512, size.seq_len + 1), generator=rng)
            self.data, self.loss, self.model_cls = (tokens[:, :-1], tokens[:, 1:]), token_loss, PlainGPT

    def model(self):
        torch.manual_seed(0)
        return self.model_cls(self.size.d_model, self.size).to(DEVICE)

    def batch(self, rng):
        ids = torch.randint(512, (self.size.batch,), generator=rng)
        return self.data[0][ids].to(DEVICE), self.data[1][ids].to(DEVICE)


def plain(subject, tick, *, bf16):
    """The best plain torch loop: fused AdamW, one index per batch, nothing read back."""
    model, rng = subject.model(), torch.Generator().manual_seed(0)
    parameters = list(model.parameters())
    groups = [[p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}], lr=1e-3, fused=True
    )
    for step in range(NEVER):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100)
        inputs, targets = subject.batch(rng)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            loss = subject.loss(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tick()


def accelerate_example(subject, tick, *, bf16):
    """As in Accelerate's examples: everything prepared, the loss gathered for the log."""
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=DEVICE.type == "cpu")
    model = subject.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    loader = DataLoader(TensorDataset(*subject.data), batch_size=subject.size.batch, shuffle=True, drop_last=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    total = 0.0
    while True:
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                loss = subject.loss(model(inputs), targets)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += accelerator.gather(loss.detach()).mean().item()
            tick()


def trainer(subject, tick, *, bf16):
    """Hugging Face's Trainer with its GPT-2 of the same shape."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    class Tick(TrainerCallback):
        def on_step_end(self, *_, **__):
            tick()

    size = subject.size
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=size.seq_len, n_embd=size.d_model, n_layer=size.n_layer, n_head=size.n_head,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu", loss_type="ForCausalLM",
    )  # fmt: skip
    rows = [{"input_ids": t, "labels": t} for t in subject.data[0]]
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=size.batch, max_steps=NEVER, bf16=bf16,
        use_cpu=DEVICE.type == "cpu", report_to=[], save_strategy="no", logging_steps=1000, optim="adamw_torch_fused",
        learning_rate=1e-3, warmup_steps=100, disable_tqdm=True, max_grad_norm=1.0,
    )  # fmt: skip
    Trainer(GPT2LMHeadModel(config), arguments, train_dataset=rows, callbacks=[Tick()]).train()


def engine(subject, tick, *, precision, reference=False):
    """This library's loop on the same model, or on its reference GPT."""

    class Ticking:
        """Hands over the turn where the loop asks for the next step's samples."""

        tokens_per_sample, num_samples, fingerprint = subject.size.seq_len, 512, subject.name
        probing, started = True, False

        def batch(self, ids):
            if not self.probing:
                if self.started:
                    tick()
                self.started = True
            index = torch.from_numpy(ids)
            return subject.data[0][index], subject.data[1][index]

    size = subject.size
    shape = {"n_layer": size.n_layer, "n_head": size.n_head, "vocab_size": VOCAB, "seq_len": size.seq_len}
    model = GPT if reference else subject.model_cls
    task = make_task(
        model, "d_model", shape if reference else {"size": size}, train_data=Ticking(), eval_data=Ticking(),
        loss_fn=cross_entropy if reference else subject.loss,
    )  # fmt: skip
    tokens = size.batch * size.seq_len
    num_params = sum(p.numel() for p in subject.model().parameters())
    experiment = Experiment(
        experiment_id=subject.name, compute_budget=1.0, size_param_value=size.d_model, num_params=num_params,
        num_params_non_embedding=num_params, num_tokens=tokens * NEVER, flops_per_token=1.0,
        measured_flops_per_token=1.0, tokens_per_sample=size.seq_len,
        recipe=Recipe(batch_tokens=tokens, learning_rate=1e-3, warmup_tokens=100 * tokens),
    )  # fmt: skip
    settings = TrainSettings(precision=precision, compile="never", log_every=1000, checkpoint_seconds=1e9)
    with open_world() as world, tempfile.TemporaryDirectory() as folder:
        choice = choose_engine(task, experiment, world, settings, Path(folder) / "engine.json")
        task.train_data.probing = False
        train_model(task, experiment, Path(folder), world=world, settings=settings, choice=choice)


CONTENDERS = {
    "plain fp32": lambda s, t: plain(s, t, bf16=False),
    "plain bf16": lambda s, t: plain(s, t, bf16=True),
    "accelerate fp32": lambda s, t: accelerate_example(s, t, bf16=False),
    "trainer bf16": lambda s, t: trainer(s, t, bf16=True),
    "engine fp32": lambda s, t: engine(s, t, precision="fp32"),
    "engine bf16": lambda s, t: engine(s, t, precision="bf16"),
    "engine auto": lambda s, t: engine(s, t, precision="auto"),
    "reference auto": lambda s, t: engine(s, t, precision="auto", reference=True),
}
MICRO = ("plain fp32", "accelerate fp32", "engine fp32", "engine auto")
# A over B, and the throughput ratio that is asked for, by size.
GOALS = (
    ("engine fp32", "plain fp32", {"1M": 0.95, "4M": 0.95}),
    ("engine bf16", "plain bf16", {"1M": 0.95, "4M": 0.95}),
    ("engine fp32", "accelerate fp32", {"micro": 1 / 0.65}),
    ("engine auto", "plain fp32", {"0.1M": 0.95, "1M": 1.4, "4M": 1.8}),
    ("engine auto", "trainer bf16", {"1M": 1.2, "4M": 1.2}),
    ("reference auto", "plain fp32", {"1M": 2.0, "4M": 2.4, "15M": 2.8}),
    ("reference auto", "trainer bf16", {"1M": 1.5, "4M": 1.5}),
)


class Turns(threading.Thread):
    """Runs a contender a few steps at a time and times each turn."""

    def __init__(self, name, subject):
        super().__init__(daemon=True, name=name)
        self.subject, self.left, self.begun, self.cost, self.error = subject, 0, 0.0, [], None
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def run(self):
        try:
            self.go.acquire()
            # Each contender sets Accelerate up in its own way; earlier ones keep the state they hold.
            AcceleratorState._shared_state = {}
            self.begun = self.now()
            CONTENDERS[self.name](self.subject, self.tick)
        except BaseException as error:
            self.error = error
        self.done.release()

    def tick(self):
        self.left -= 1
        if self.left <= 0:
            self.cost.append(self.now() - self.begun)
            self.done.release()
            self.go.acquire()
            self.begun = self.now()

    @staticmethod
    def now():
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.thread_time()

    def turn(self, steps):
        self.left = steps
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error


def measure(name, rounds, wanted):
    """Returns milliseconds a step by contender, one value per round."""
    subject = Subject(name)
    names = [n for n in (MICRO if name == "micro" else CONTENDERS) if not wanted or n in wanted]
    threads = [Turns(n, subject) for n in names]
    for thread in threads:
        thread.start()
        thread.turn(3)  # allocations, caches and the probe of precisions
        thread.turn(subject.size.steps)
    for _ in range(rounds):
        for thread in threads:
            thread.turn(subject.size.steps)
    return {t.name: [1e3 * c / subject.size.steps for c in t.cost[2:]] for t in threads}


def ratios(costs, name):
    """Returns how many times faster A is than B: the median over rounds."""
    pairs = [(a, b, goals.get(name)) for a, b, goals in GOALS if a in costs and b in costs]
    return {f"{a} / {b}": (statistics.median(y / x for x, y in zip(costs[a], costs[b], strict=True)), goal)
            for a, b, goal in pairs}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["micro", "0.1M", "1M", "4M"])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if arguments.repeats == 1:
        runs = {}
        for name in arguments.sizes:
            costs = measure(name, arguments.rounds, arguments.contenders)
            runs[name] = {"ms": {k: statistics.median(v) for k, v in costs.items()}, "ratios": ratios(costs, name)}
            print(name, *(f"{k} {v:.3g} ms" for k, v in runs[name]["ms"].items()), sep="  ", flush=True)
            for pair, (value, goal) in runs[name]["ratios"].items():
                print(f"    {pair}: {value:.2f}" + (f" (goal {goal:.2f})" if goal else ""), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(runs))
        return
    repeat(arguments)


def repeat(arguments):
    """Runs this script anew several times, since whole runs differ by 10 to 25 %, and takes medians."""
    found = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--rounds", str(arguments.rounds), "--json", f"{folder}/r.json"]
            command += ["--sizes", *arguments.sizes]
            command += ["--contenders", *arguments.contenders] if arguments.contenders else []
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found.append(json.loads(Path(f"{folder}/r.json").read_text()))
    for name in arguments.sizes:
        print(name)
        for pair, (_, goal) in found[0][name]["ratios"].items():
            values = [f[name]["ratios"][pair][0] for f in found]
            said = "" if goal is None else f", goal {goal:.2f}: {'met' if np.median(values) >= goal else 'MISSED'}"
            print(f"    {pair}: {np.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)}){said}")


if __name__ == "__main__":
    main()
