"""Tokenizer: byte-level BPE, trained on the training side only, lossless on any text."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from flops_fit.errors import InputError
from flops_fit.files import replace_file
from flops_fit.pipeline.corpus import PATH as CORPUS
from flops_fit.pipeline.documents import read_documents, texts_of
from flops_fit.pipeline.settings import SPECIALS
from flops_fit.pipeline.stages import Context, Outcome

PATH = "tokenizer/tokenizer.json"
SMALLEST = 256 + len(SPECIALS)


def run(context: Context) -> Outcome:
    """Makes ``tokenizer/tokenizer.json``, or takes the one that is there."""
    path, requested = context.root / PATH, context.config.pipeline.vocab_size
    texts = texts_of(read_documents(context.root / CORPUS), "train")
    if context.config.skip_tokenizer:
        if not path.is_file():
            raise InputError(
                f"tokenizer: {path} does not exist, expected it with --skip-tokenizer. Leave out --skip-tokenizer to "
                "train one."
            )
    else:
        replace_file(path, train_tokenizer(texts, requested))
    tokenizer = load_tokenizer(path)
    sample = texts[:: max(1, len(texts) // 200)]
    num_tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(sample))
    facts = {
        "vocab_size_requested": requested,
        "vocab_size": tokenizer.get_vocab_size(),
        "bytes_per_token": sum(len(text.encode()) for text in sample) / num_tokens,
    }
    return Outcome(outputs=(PATH,), facts=facts, summary=f"{PATH}, {facts['vocab_size']} entries")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> bytes:
    """Trains a tokenizer and returns its JSON.

    Fewer entries come out where the text has no pair left to merge, and never fewer than 256 bytes and the special
    ones. The special entries are in the vocabulary, but no text is encoded to them: "<bos>" in a text is bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, SMALLEST),
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def load_tokenizer(path: Path) -> Tokenizer:
    """Reads a tokenizer with the special entries that the pipeline needs.

    Raises:
        InputError: If the file is none, or lacks them.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # Its Rust code raises a bare Exception.
        raise InputError(f"tokenizer: {path} cannot be read ({error}). Leave out --skip-tokenizer.") from error
    missing = [name for name in SPECIALS if tokenizer.token_to_id(name) is None]
    if missing:
        raise InputError(
            f"tokenizer: {path} has no entry {', '.join(missing)}, expected {', '.join(SPECIALS)}. "
            "Leave out --skip-tokenizer to train one."
        )
    return tokenizer
