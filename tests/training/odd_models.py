"""Models, data sets and losses as people write them: what the engine has to train as it is, or refuse in a line.

python tests/training/odd_models.py    trains each for 19 steps and prints a table
"""

import random
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from support import ChainData, TinyLM, make_experiment, sequence_loss
from torch import nn
from torch.nn import functional as F

from flops_fit.data import as_source
from flops_fit.tasks import make_task


class Body(nn.Module):
    """An embedding, something of one's own, and a head."""

    def __init__(self, width):
        super().__init__()
        self.embed, self.head = nn.Embedding(16, width), nn.Linear(width, 16)

    def forward(self, tokens_BT):
        return self.head(self.mix(self.embed(tokens_BT), tokens_BT))


class Scan(Body):
    """A linear recurrence, step by step."""

    def __init__(self, width):
        super().__init__(width)
        self.decay = nn.Parameter(torch.zeros(width))

    def mix(self, x_BTK, tokens_BT):
        state, states = torch.zeros_like(x_BTK[:, 0]), []
        for x_BK in x_BTK.unbind(1):
            state = self.decay.sigmoid() * state + x_BK
            states.append(state)
        return torch.stack(states, 1)


class Experts(Body):
    """A mixture of 32 experts, the best one for each token."""

    def __init__(self, width, number=32):
        super().__init__(width)
        self.router = nn.Linear(width, number)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(number))

    def mix(self, x_BTK, tokens_BT):
        weight_BT, chosen_BT = self.router(x_BTK).softmax(-1).max(-1)
        out = x_BTK.clone()
        for i, expert in enumerate(self.experts):
            if (here := chosen_BT == i).any():
                out[here] = x_BTK[here] + weight_BT[here, None] * expert(x_BTK[here])
        return out


class Adapters(Body):
    """One of four adapters for each sequence, by its first symbol."""

    def __init__(self, width):
        super().__init__(width)
        self.adapters = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def mix(self, x_BTK, tokens_BT):
        out = x_BTK.clone()
        for i, adapter in enumerate(self.adapters):
            if (here := tokens_BT[:, 0] % 4 == i).any():
                out[here] = adapter(x_BTK[here]).tanh()
        return out


class UnusedHead(TinyLM):
    """A second head that the loss does not see."""

    def __init__(self, width):
        super().__init__(width)
        self.value_head = nn.Linear(width, 1)


class Recurrent(Body):
    """An LSTM."""

    def __init__(self, width):
        super().__init__(width)
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def mix(self, x_BTK, tokens_BT):
        return self.lstm(x_BTK)[0]


class Tied(TinyLM):
    """The embedding is the head; the mixing layer is frozen."""

    def __init__(self, width):
        super().__init__(width)
        self.head.weight = self.embed.weight
        self.mix.requires_grad_(False)


class Spectral(Body):
    """A filter with complex weights, over the frequencies of the sequence's channels."""

    def __init__(self, width):
        super().__init__(width)
        self.filter = nn.Parameter(torch.ones(width // 2 + 1, dtype=torch.complex64))

    def mix(self, x_BTK, tokens_BT):
        return torch.fft.irfft(torch.fft.rfft(x_BTK) * self.filter, n=x_BTK.shape[-1])


class Activated(TinyLM):
    """Takes its activation as an argument."""

    def __init__(self, width, act):
        super().__init__(width)
        self.act = act

    def forward(self, tokens_BT):
        return self.head(self.act(self.mix(self.embed(tokens_BT))))


class MovingCode(Body):
    """Has a constant buffer, and one that it writes through ``.data`` on its own."""

    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("scale", torch.full((1000,), 0.5))
        self.register_buffer("code", torch.zeros(width))

    def mix(self, x_BTK, tokens_BT):
        if self.training:
            self.code.data.lerp_(x_BTK.detach().mean((0, 1)), 0.1)
        return x_BTK + self.code * self.scale[0]


class Images(torch.utils.data.Dataset):
    """Stripes of four directions, in noise."""

    def __init__(self, size=512, seed=0, augment=None):
        rng = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(4, (size,), generator=rng)
        wave = torch.linspace(0, 12, 8)
        stripes = [wave[:, None].expand(8, 8), wave.expand(8, 8), wave[:, None] + wave, wave[:, None] - wave]
        clean = torch.stack(stripes).sin()[self.labels, None]
        self.images = clean + 0.3 * torch.randn(size, 1, 8, 8, generator=rng)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        return (image if self.augment is None else self.augment(image)), self.labels[i]


def flip_and_shift(image):
    """Draws from each of the three global generators."""
    image = image.flip(2) if random.random() < 0.5 else image
    return image.roll(int(np.random.randint(3)), 1) + 0.1 * torch.randn(1)


class ConvNet(nn.Module):
    def __init__(self, width, norm=nn.Identity):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3), norm(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 4)
        )

    def forward(self, images):
        return self.layers(images)


class Dense(nn.Module):
    """With BatchNorm over samples."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4)
        )

    def forward(self, images):
        return self.layers(images)


class ViT(nn.Module):
    """Patches of 4 x 4, a class token and one layer of torch's encoder."""

    def __init__(self, width):
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, images):
        patches = self.patch(images).flatten(2).mT
        return self.head(self.encoder(torch.cat([self.start.expand(len(images), 1, -1), patches], 1))[:, 0])


class Rows(ChainData):
    """The columns that Hugging Face models take."""

    def __getitem__(self, i):
        tokens = super().__getitem__(i)[0]
        return {"input_ids": tokens, "labels": tokens}


class Masked(ChainData):
    """Every second sample holds no target at all."""

    def __getitem__(self, i):
        tokens, targets = super().__getitem__(i)
        return tokens, targets if i % 2 else torch.full_like(targets, -100)


def llama(width):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32, use_cache=False,
        )
    )  # fmt: skip


def hugging_face_stream():
    from datasets import Dataset

    table = Dataset.from_dict({"input_ids": ChainData().tokens.tolist(), "labels": ChainData().tokens.tolist()})
    return table.to_iterable_dataset().with_format("torch")


def masked_mean(logits_BTV, targets_BT):
    """Its own mean over targets: 0/0 with a gradient of NaN where there are none."""
    mask = targets_BT != -100
    losses = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.clamp(min=0).flatten(), reduction="none")
    return (losses * mask.flatten()).sum() / mask.sum()


def _text(model, data=None, loss=sequence_loss, held_out=None, **kwargs):
    return model, kwargs, data or ChainData(), held_out or ChainData(64, seed=1), loss


def _image(model, augment=None, **kwargs):
    return model, kwargs, Images(augment=augment), Images(64, seed=1), nn.CrossEntropyLoss()


ODD = {
    "scan": lambda: _text(Scan),
    "convolutions": lambda: _image(ConvNet),
    "batch norm 1d": lambda: _image(Dense),
    "batch norm 2d": lambda: _image(ConvNet, norm=nn.BatchNorm2d),
    "32 experts, top 1": lambda: _text(Experts),
    "adapters by data": lambda: _text(Adapters),
    "unused head": lambda: _text(UnusedHead),
    "lstm": lambda: _text(Recurrent),
    "vision transformer": lambda: _image(ViT),
    "llama, grouped queries": lambda: _text(llama, Rows(), None, Rows(64, seed=1)),
    "tied and frozen": lambda: _text(Tied),
    "complex weights": lambda: _text(Spectral),
    "buffers of its own": lambda: _text(MovingCode),
    "samples without targets": lambda: _text(TinyLM, Masked()),
    "own masked mean": lambda: _text(TinyLM, Masked(), masked_mean),
    "augmented at random": lambda: _image(ConvNet, flip_and_shift),
    "F.silu as argument": lambda: _text(Activated, act=F.silu),
    "hugging face stream": lambda: _text(llama, hugging_face_stream(), None, Rows(64, seed=1)),
}
BATCH_NORM = ("batch norm 1d", "batch norm 2d")


def odd_task(name):
    model, kwargs, train, held_out, loss = ODD[name]()
    return make_task(
        model, "width", kwargs, train_data=as_source(train), eval_data=as_source(held_out), loss_fn=loss, name=name
    )


def odd_experiment(name, steps=19, last=6, **changes):
    """Steps of 8 samples, and one of ``last``."""
    length = odd_task(name).train_data.tokens_per_sample
    return make_experiment(
        tokens_per_sample=length, batch_tokens=8 * length, num_tokens=(8 * steps - 8 + last) * length,
        warmup_tokens=16 * length, **changes,
    )  # fmt: skip


def main():
    import tempfile

    from flops_fit.distributed import open_world
    from flops_fit.training import TrainSettings, train_experiment

    with open_world() as world, tempfile.TemporaryDirectory() as folder:
        for name in ODD:
            losses = []
            for micro_batch in (None, 3):
                run_dir = Path(folder) / name / str(micro_batch)
                run_dir.mkdir(parents=True)
                settings = TrainSettings(precision="fp32", compile="never", micro_batch_samples=micro_batch)
                result = train_experiment(odd_task(name), odd_experiment(name), run_dir, world=world, settings=settings)
                reason = (result.reason or "").rstrip().split("\n")[-1]
                losses.append(reason if result.loss is None else f"{result.loss:.6f}")
            sys.stdout.write(f"{name:25} {result.status:10} {losses[0]}, in pieces of 3: {losses[1]}\n")


if __name__ == "__main__":
    main()
