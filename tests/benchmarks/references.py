"""The models and loops that the engine is measured against, written to be read.

A contender is a function of a subject and of ``tick``, which it calls after each step.
"""

import dataclasses
import tempfile

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

VOCAB = 2048
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
    # For a GPU.
    "10M": Size(6, 320, 5, 64, 1024, 10),
    "50M": Size(8, 640, 10, 32, 1024, 5),
    "124M": Size(12, 768, 12, 32, 1024, 5),
    "350M": Size(24, 1024, 16, 16, 1024, 3),
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


def plain(subject, tick, *, bf16, compiled=False):
    """The best plain torch loop: fused AdamW, one index per batch, nothing read back."""
    model, rng = subject.model(), torch.Generator().manual_seed(0)
    parameters = list(model.parameters())
    model = torch.compile(model) if compiled else model
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


def ceiling(subject, tick, *, dtype):
    """Only the matrix products of a step, forward and backward, attention without its mask.

    No loop and no kernel that computes all of them can beat it; one may leave out scores that the mask hides.
    """
    size = subject.size
    B, T, C, H = size.batch, size.seq_len, size.d_model, size.n_head
    shapes = [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * size.n_layer + [(C, VOCAB)]
    linears = [
        [torch.randn(*s, device=DEVICE, dtype=dtype) for s in ((B * T, i), (o, i), (B * T, o))] for i, o in shapes
    ]
    q, scores = (torch.randn(B * H, T, n, device=DEVICE, dtype=dtype) for n in (C // H, T))
    while True:
        for x, weight, grad in linears:
            F.linear(x, weight), grad @ weight, grad.mT @ x
        for _ in range(size.n_layer):
            for _ in range(2):  # queries and keys, weights and values; each once forward and twice backward
                q @ q.mT, scores @ q, scores.mT @ q
        tick()
