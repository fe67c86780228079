"""TinyStories as samples of one length: read on first use, tokenized as it is read, shifted by one."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from flops_fit.examples.reference import load_hub_split
from numpy.typing import NDArray
from torch.utils.data import Dataset

from flops_fit.data.targets import IGNORE_INDEX
from flops_fit.errors import ConfigError, ContractError

COLUMN = "text"
NUM_BYTES = 256
CHUNK_ROWS = 1000
"""Stories that are read at once while their lengths are counted."""


class TinyStoriesDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """``ds[i]`` is ``(inputs, targets)``, int64 of shape (seq_len,), with ``targets[t] = inputs[t + 1]``.

    Nothing is imported, opened or counted before the first ``len()`` or index. Then the lengths of all stories are
    counted once, and each sample reads the few stories that it holds.

    Args:
        split: "train", or "validation" for the hub's held-out stories.
        seq_len: T, tokens of a sample.
        tokenizer: None for bytes and an end-of-text token, 257 in all; or a name on the hub, for `transformers`. The
            50,257 tokens of GPT-2 are 6.7M parameters at a width of 128, more than the whole of a small sweep.
        pack: True joins the stories, an end-of-text token after each, and cuts them into samples without padding.
            False takes one story a sample, cut or padded to ``seq_len``; the targets of padding are -100.
        name: The data set on the hub, or a folder that holds a copy of it.
    """

    def __init__(
        self,
        split: str = "train",
        seq_len: int = 256,
        *,
        tokenizer: str | None = None,
        pack: bool = True,
        name: str = "roneneldan/TinyStories",
    ) -> None:
        if seq_len < 1:
            raise ConfigError(f"seq_len: got {seq_len}, expected at least 1.")
        self.split, self.seq_len, self.tokenizer, self.pack, self.name = split, seq_len, tokenizer, pack, name
        self._dataset: Any = None
        """Rows with a column "text": None until first use; may be set before it."""
        self._tokenizer: Any = None
        """Called with a text it returns its ``input_ids``, and it has an ``eos_token_id``; as ``_dataset``."""

    def __len__(self) -> int:
        return (int(self._ends[-1]) - 1) // self.seq_len if self.pack else len(self._rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._window(i) if self.pack else self._story(i)

    @property
    def vocab_size(self) -> int:
        """V, the end-of-text token included."""
        return NUM_BYTES + 1 if self._encoder is None else max(len(self._encoder), self.end_of_text + 1)

    @property
    def end_of_text(self) -> int:
        """The token after each story."""
        return NUM_BYTES if self._encoder is None else int(self._encoder.eos_token_id)

    def _window(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens i*T to i*T + T of all stories in a row, so that each token is a target once."""
        start, stop = i * self.seq_len, (i + 1) * self.seq_len + 1
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        begin = int(self._ends[first - 1]) if first else 0
        stories = [self._encode(self._text(self._rows[j])) for j in range(int(first), int(last) + 1)]
        tokens = torch.from_numpy(np.concatenate(stories)[start - begin : stop - begin])
        return tokens[:-1], tokens[1:]

    def _story(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self._encode(self._text(self._rows[i]))
        if len(tokens) == 1:  # An empty story: end follows end, so that no sample is without a target.
            tokens = tokens.repeat(2)
        tokens = tokens[: self.seq_len + 1]
        inputs = torch.full((self.seq_len,), self.end_of_text, dtype=torch.int64)
        targets = torch.full((self.seq_len,), IGNORE_INDEX, dtype=torch.int64)
        inputs[: min(len(tokens), self.seq_len)] = torch.from_numpy(tokens[: self.seq_len])
        targets[: len(tokens) - 1] = torch.from_numpy(tokens[1:])
        return inputs, targets

    def _encode(self, text: str) -> NDArray[np.int64]:
        """The tokens of a story and the end-of-text token."""
        encoder = self._encoder
        if encoder is None:
            ids: Any = np.frombuffer(text.encode(), dtype=np.uint8)
        else:
            ids = np.asarray(encoder(text, **self._encode_options)["input_ids"]).reshape(-1)
        return np.append(ids, self.end_of_text).astype(np.int64)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where each story ends in the row of all tokens, shape (stories,)."""
        if self._encoder is None:
            lengths: Iterator[int] = (len(text.encode()) + 1 for text in self._texts())
        else:
            lengths = (len(self._encode(text)) for text in self._texts())
        ends = np.cumsum(np.fromiter(lengths, dtype=np.int64))
        total = int(ends[-1]) if len(ends) else 0
        if total <= self.seq_len:
            raise ContractError(
                f"{self.name}: its {len(ends)} stories of {self.split!r} hold {total} tokens, expected more than "
                f"seq_len={self.seq_len}. Add stories, or take a shorter seq_len."
            )
        return ends

    def _texts(self) -> Iterator[str]:
        rows = self._rows
        if not hasattr(rows, "column_names"):
            yield from map(self._text, rows)
            return
        # Of a `datasets` table, many rows at once are a hundred times faster than row by row.
        for k in range(0, len(rows), CHUNK_ROWS):
            yield from map(self._checked, rows[k : k + CHUNK_ROWS][COLUMN])

    def _text(self, row: Mapping[str, Any]) -> str:
        if COLUMN not in row:
            raise self._no_column(list(row))
        return self._checked(row[COLUMN])

    def _checked(self, text: Any) -> str:
        if not isinstance(text, str):
            raise ContractError(
                f"{self.name}: a row's column {COLUMN!r} holds {text!r}, expected a story as a string. Leave such "
                "rows out."
            )
        return text

    def _no_column(self, names: Sequence[str]) -> ContractError:
        return ContractError(
            f"{self.name}: a row has the columns {names}, expected {COLUMN!r}, which holds the story. Rename it, as "
            f"with dataset.rename_column({(names or ['...'])[0]!r}, {COLUMN!r})."
        )

    @property
    def _rows(self) -> Any:
        if self._dataset is None:
            self._dataset = load_hub_split(self.name, self.split)
        names = getattr(self._dataset, "column_names", None)
        if isinstance(names, list) and COLUMN not in names:
            raise self._no_column(names)
        return self._dataset

    @property
    def _encoder(self) -> Any:
        """The tokenizer; None for bytes."""
        if self._tokenizer is None and self.tokenizer is not None:
            from transformers import AutoTokenizer

            try:
                self._tokenizer = AutoTokenizer.from_pretrained(self.tokenizer)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"tokenizer: {self.tokenizer!r} cannot be loaded ({str(error).splitlines()[0]}). Name a local "
                    "folder of a tokenizer, or leave it out for bytes."
                ) from error
        return self._tokenizer

    @property
    def _encode_options(self) -> dict[str, Any]:
        # Packed stories are apart by the end-of-text token alone; what is injected takes the text alone.
        return {} if self.tokenizer is None else {"add_special_tokens": False}
