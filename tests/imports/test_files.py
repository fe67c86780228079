"""Table files of every format, and what exporters make of them."""

import gzip
import io
import json

import pytest

from flops_fit.errors import InputError
from flops_fit.imports.runs import read_runs

ROWS = [{"C": 6e10, "N": 10000, "D": 1e6, "loss": 3.1}, {"C": 6e10, "N": 20000, "D": 5e5, "loss": 3.0}]
LINES = "\n".join(map(json.dumps, ROWS))
CSV = "C,N,D,loss\n6e10,1e4,1e6,3.1\n6e10,2e4,5e5,3.0\n"


def parquet(**columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("runs.jsonl", LINES),
        ("runs.ndjson", LINES),
        ("runs.json", json.dumps(ROWS, indent=1)),
        ("runs.json", LINES),
        ("runs.csv.gz", gzip.compress(CSV.encode())),
        ("runs.tsv.gz", gzip.compress(CSV.replace(",", "\t").encode())),
        ("runs.JSONL.GZ", gzip.compress(LINES.encode())),
        ("runs.txt", CSV.replace(",", "\t")),
        ("runs.csv", CSV.replace(",", "\t")),
        ("runs.csv", CSV.replace(",", ";")),
        ("runs.tsv", CSV),
        ("runs.csv", "\ufeff\n" + CSV.replace("\n", "\r\n")),
        ("runs.csv", CSV.replace("C,N,D,loss", '"C","N","D","loss"')),
        ("pandas.csv", ",C,N,D,loss\n0,6e10,1e4,1e6,3.1\n1,6e10,2e4,5e5,3.0\n"),
        ("excel.csv", "C;N;D;loss;;\n6e10;1e4;1e6;3.1;;\n6e10;2e4;5e5;3.0;;\n"),
        ("quoted.csv", '"C";N;D;loss;"a, b"\n6e10;1e4;1e6;3.1;x\n6e10;2e4;5e5;3.0;"y;z"\n'),
        ("runs.parquet", parquet(C=[6e10, 6e10], N=[10000, 20000], D=[1e6, 5e5], loss=[3.1, 3.0])),
    ],
)
def test_every_format_reads_the_same(write, name, content):
    runs = read_runs(write(content, name))
    columns = (runs.compute, runs.num_params, runs.num_tokens, runs.loss)
    assert [list(c) for c in columns] == [[6e10, 6e10], [1e4, 2e4], [1e6, 5e5], [3.1, 3.0]]


def test_small_integers_of_parquet_are_multiplied_as_floats(write):
    import pyarrow as pa

    content = parquet(N=pa.array([100], pa.int8()), D=pa.array([100], pa.int8()), loss=pa.array([3], pa.int8()))
    assert list(read_runs(write(content, "runs.parquet")).compute) == [60000.0]


def test_the_runs_table_of_wandb(write):
    runs = read_runs(
        write(
            '"Name","State","Runtime","n_params","train_tokens","eval/loss","train/loss","Group"\n'
            '"a","finished","9","1000000","20000000","3.5","3.4",""\n'
            '"b","crashed","9","2000000","","","3.4",""\n'
        )
    )
    assert list(runs.loss) == [3.5]
    assert [(e.source, e.code, e.reason) for e in runs.excluded] == [("line 3", "not_completed", "status 'crashed'")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("runs.xlsx", b"PK", "ending '.xlsx', expected one of .*Save the table as CSV"),
        ("runs", CSV, "ending ''"),
        ("runs.gz", CSV, "ending '.gz'"),
        ("runs.csv.gz", CSV, "not a readable gzip file"),
        ("runs.csv.gz", gzip.compress(CSV.encode() * 100)[:-12], "not a readable gzip file"),
        ("runs.json", '{"N": {"0": 1e4}}', "got a JSON dict, expected a list of objects.*orient='records'"),
        ("runs.json", "[1, 2]", "expected a list of objects"),
        ("runs.json", '[{"N": 1,', "not valid JSON"),
        ("runs.json", '[{"N": 1e4, "D": 1e6, "loss": NaN}]', "row 1: loss='nan'"),
        ("runs.jsonl", '{"N": 1}\n[1]\n', "line 2: got list"),
        ("runs.parquet", parquet(N=[1e4, 2e4], D=[1e6, None], loss=[3.0, 2.0]), "row 2: D is empty"),
        ("runs.parquet", CSV, "not a readable Parquet file"),
        ("runs.csv", "1e4,1e6,3\n2e4,1e6,2\n", "first row holds numbers .*Add a header"),
        ("runs.csv", "loss\n3\n", "no column for two of C, N and D"),
        ("runs.csv", "N,D,loss,x\n1,2,3," + "x" * 200_000, "line 2: not valid CSV: field larger"),
        ("runs.csv", CSV.encode("utf-16"), "Save it as UTF-8"),
        ("runs.csv", "N;D,loss;x\n1;2,3;4\n", "may be separated by commas and semicolons"),
        ("runs.csv", "N,D,loss\n7,0e7,1,4e9,3,2\n", "line 2: has 6 fields.*decimal commas, separate columns by semi"),
    ],
)  # fmt: skip
def test_another_file_is_refused_in_one_line(write, name, content, words):
    with pytest.raises(InputError, match=words) as caught:
        read_runs(write(content, name))
    assert "\n" not in str(caught.value)
