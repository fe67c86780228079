"""Reader fuzz: valid files of each kind, damaged at random; readers refuse them by type, or read sound numbers."""

import dataclasses
import functools
import gzip
import io
import json
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_training
import numpy as np

from flops_fit.claims import this_worker
from flops_fit.claims.attempt import Beat, Claim
from flops_fit.config import load_config, read_config
from flops_fit.errors import ConfigError, InputError
from flops_fit.imports.runs import read_runs
from flops_fit.records import RunResult, SweepPlan
from flops_fit.store import read_record, record_bytes

COLUMNS = ("C", "N", "D", "loss", "seed")
HARMLESS = [b"", b"1", b"7", b"2.5", b"e5", b"0"]
"""What leaves many a file readable, with other numbers in it."""
SNIPPETS = [
    b" ", b"nan", b"NaN", b"Infinity", b"-inf", b"-1", b"1e999", b"9" * 40,
    b"1e-400", b"70M", b"1,5", b"1_0", b"0x1f", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b'"', b"'",
    b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"{", b"}", b"[" * 2000, b"]", b":", b"null", b"true", b"loss", b"N",
    b"../../x", b"&a [*a]", b"*a", b"<<: ", b"!!python/name:os.system", b"${oc.env:HOME}", b"${out}", b"=1+1",
    b"</script>", b"$\\frac{$", b"\xf0\x9f\x92\xa5", b"schema_version", b"- ", b"#",
]  # fmt: skip
EDITS = ("replace", "replace", "insert", "delete", "repeat", "cut", "utf-16")
Edit = tuple[str, float, int, bytes]
"""What is done, where from 0 to 1, to how many bytes, with which ones."""


@functools.cache
def _valid() -> dict[str, bytes]:
    """A valid file of each kind, by the name that it is read under."""
    rows = [(1e18, 1e8 * k, 1e18 / 6e8 / k, 2 + 1 / k, k) for k in range(1, 6)]
    csv = "C,N,D,loss,seed\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows)
    records = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows]
    run = fake_training.make_plan(1, 4).experiments[0]
    result = RunResult(
        experiment=run, status="completed", loss=2.5, loss_std_error=0.1, tokens_seen=64, flops_spent=1e6,
        wall_seconds=1.0, environment={"torch": "2"},
    )  # fmt: skip
    claim = Claim(experiment_id="a", attempt=1, worker=this_worker(), checkpoint_step=0, claimed_at="now")
    return {
        "runs.csv": csv.encode(), "runs.tsv": csv.replace(",", "\t").encode(),
        "runs.txt": csv.replace(",", ";").encode(),
        "runs.jsonl": "\n".join(records).encode(), "runs.json": f"[{', '.join(records)}]".encode(),
        "runs.csv.gz": gzip.compress(csv.encode(), mtime=0), "runs.parquet": _parquet(rows),
        "plan.json": record_bytes(fake_training.make_plan(2, 4)), "result.json": record_bytes(result),
        "claim.json": record_bytes(claim),
        "beat.json": record_bytes(Beat(count=1, steps=2, seconds=3.0, first_step=0)),
        "config.yaml": load_config()[1].encode(),
    }  # fmt: skip


def _parquet(rows: list[tuple[float, ...]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    columns = dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


RECORDS: dict[str, type[Any]] = {
    "plan.json": SweepPlan, "result.json": RunResult, "claim.json": Claim, "beat.json": Beat,
}  # fmt: skip
KINDS = ["runs.csv", "runs.tsv", "runs.txt", "runs.jsonl", "runs.json", "runs.csv.gz", "runs.parquet", *RECORDS]
# Building a whole configuration takes ten times as long as reading a table.
WEIGHTED_KINDS = [*KINDS * 4, "config.yaml"]


def damaged(kind: str, edits: Sequence[Edit]) -> bytes:
    """Returns a valid file of a kind after some edits."""
    data = _valid()[kind]
    for edit, place, length, snippet in edits:
        at = int(place * len(data))
        match edit:
            case "replace":
                data = data[:at] + snippet + data[at + max(1, len(snippet)) :]
            case "insert":
                data = data[:at] + snippet + data[at:]
            case "delete":
                data = data[:at] + data[at + length :]
            case "repeat":
                data = data[: at + length] + data[at:]
            case "cut":
                data = data[:at]
            case "utf-16":
                data = data.decode("latin-1").encode("utf-16")
    return data[:100_000]


def read(kind: str, path: Path) -> str:
    """Reads a file as its kind; returns "refused" or "read".

    Raises:
        AssertionError: If what was read is no sound number.
    """
    try:
        if kind == "config.yaml":
            read_config(path)
        elif kind in RECORDS:
            _check_finite(dataclasses.asdict(read_record(RECORDS[kind], path)))
        else:
            runs = read_runs(path)
            for column in (runs.compute_budget, runs.compute, runs.num_params, runs.num_tokens, runs.loss):
                assert np.isfinite(column).all(), f"not finite: {column}"
                assert (column > 0).all(), f"not positive: {column}"
    except InputError:
        return "refused"
    except ConfigError:
        if kind != "config.yaml":
            raise
        return "refused"
    return "read"


def _check_finite(value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            # For people; nothing reads them back.
            if key not in ("environment", "model_kwargs"):
                _check_finite(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_finite(inner)
    assert not isinstance(value, float) or math.isfinite(value), f"not finite: {value}"


def fuzz_readers(*, inputs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Reads so many damaged files; returns figures and the first ones that went wrong."""
    began, counts, errors = time.monotonic(), Counter[str](), []
    slowest = 0.0

    def check(kind: str, data: bytes) -> None:
        nonlocal slowest
        path = folder / kind
        path.write_bytes(data)
        counts["inputs"] += 1
        start = time.thread_time()
        try:
            counts[read(kind, path)] += 1
        except AssertionError as error:
            counts["nonsense"] += 1
            errors.append({"kind": kind, "data": repr(data[:300]), "problem": str(error)})
        except Exception as error:
            counts["untyped"] += 1
            errors.append({"kind": kind, "data": repr(data[:300]), "problem": repr(error)[:300]})
        slowest = max(slowest, time.thread_time() - start)

    rng = random.Random(seed)
    while counts["inputs"] < inputs:
        kind = rng.choice(WEIGHTED_KINDS)
        check(kind, damaged(kind, [_edit(rng) for _ in range(rng.randint(1, 3))]))
    return {
        **counts, "slowest_cpu_seconds": round(slowest, 3), "errors": errors[:10],
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _edit(rng: random.Random) -> Edit:
    snippet = rng.choice((rng.choice(HARMLESS), rng.choice(SNIPPETS), rng.randbytes(rng.randint(0, 4))))
    return rng.choice(EDITS), rng.random(), rng.randint(0, 30), snippet
