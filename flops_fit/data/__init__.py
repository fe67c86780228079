"""Numbered samples: packed token files and the data sets of users."""

from flops_fit.data.datasets import as_source, split_held_out
from flops_fit.data.packed import PackedTokens, pack_tokens
from flops_fit.data.samples import MapSource, SourceView, StreamSource
from flops_fit.data.sources import SampleSource

__all__ = [
    "MapSource",
    "PackedTokens",
    "SampleSource",
    "SourceView",
    "StreamSource",
    "as_source",
    "pack_tokens",
    "split_held_out",
]
