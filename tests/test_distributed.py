import os
import subprocess
import sys

import pytest

CHILD = """
import weakref
from torch import nn
from flops_fit.distributed import open_world

with open_world() as world:
    model = nn.Linear(2, 2)
    first = weakref.ref(model)
    world.prepare(model)
    del model
    world.prepare(nn.Linear(2, 2))
    assert first() is None, "the first model is still there"
    print("GONE")
"""


@pytest.mark.slow
def test_a_model_is_let_go_when_the_next_is_prepared(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("GONE") == 2
