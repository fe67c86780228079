"""Pack: both sides as token files, each document between <bos> and <eos>."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from flops_fit.data import pack_tokens
from flops_fit.errors import InputError
from flops_fit.pipeline.corpus import PATH as CORPUS
from flops_fit.pipeline.documents import read_documents, texts_of
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.pipeline.tokenizer import PATH as TOKENIZER
from flops_fit.pipeline.tokenizer import load_tokenizer
from flops_fit.quantities import format_count

MIN_SEQUENCE = 8
OUTPUTS = ("data/train.bin", "data/train.json", "data/val.bin", "data/val.json")


def run(context: Context) -> Outcome:
    """Makes ``data/{train,val}.{bin,json}``."""
    wanted = context.config.pipeline.max_seq_length
    tokenizer = load_tokenizer(context.root / TOKENIZER)
    documents = read_documents(context.root / CORPUS)
    streams = {side: encode(tokenizer, texts_of(documents, side)) for side in ("train", "val")}
    # One token more than a sequence: the targets are shifted by one.
    seq_len = min(wanted, *(len(stream) - 1 for stream in streams.values()))
    if seq_len < MIN_SEQUENCE:
        raise InputError(
            f"corpus: {context.config.corpus.paths or context.root / CORPUS} is too small: its shorter side has "
            f"{seq_len + 1} tokens, expected at least {MIN_SEQUENCE + 1}. Try --corpus-path with more text."
        )
    if seq_len < wanted:
        context.notify(f"sequences of {seq_len} tokens instead of {wanted}: the shorter side of the corpus has no more")
    for side, stream in streams.items():
        # Whole sequences, so that a pass over the data is the same number of tokens each time.
        pack_tokens([stream[: (len(stream) - 1) // seq_len * seq_len + 1]], context.root / f"data/{side}.bin")
    counts = {f"{side}_tokens": (len(stream) - 1) // seq_len * seq_len for side, stream in streams.items()}
    summary = f"data/, {format_count(counts['train_tokens'])} training tokens in sequences of {seq_len}"
    return Outcome(outputs=OUTPUTS, facts={**counts, "seq_len": seq_len}, summary=summary)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.unsignedinteger]:
    """Returns the tokens of all documents, one after another."""
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    encoded = tokenizer.encode_batch(list(texts))
    return np.concatenate([np.array([bos, *encoding.ids, eos], dtype=dtype) for encoding in encoded])
