"""Folders from strangers: nothing in them runs, nothing outside is read or written, and the refusal is clear.

Hostile names in the report are those of `tests/reporting/test_report.py`; here the ids of runs, which become links.
"""

import hashlib
import json
import pickle
from html.parser import HTMLParser
from pathlib import Path

import fake_training
import pytest
import torch
from safetensors import SafetensorError
from test_claims_under_faults import completed
from torch import nn

from flops_fit import cli
from flops_fit.claims import Board, Hold, run_states, this_worker
from flops_fit.claims.attempt import beat_path, claim_path, read_beat, read_claim
from flops_fit.distributed import open_world
from flops_fit.errors import InputError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.records import RunTable
from flops_fit.reporting import write_report
from flops_fit.store import create_store, open_store
from flops_fit.training import checkpoints
from flops_fit.training.checkpoints import load_checkpoint, save_checkpoint, tensors_of


class Evil:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in a file was run"


@pytest.fixture
def store(tmp_path):
    return create_store(tmp_path / "sweep", fake_training.make_plan(2, 4))


# Checkpoints


def save(folder, step):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"step": step, "steps_from_trunk": 0, "scaler": {}, "engine": {}}
    save_checkpoint(folder, tensors_of(model, optimizer), state, losses=[1.0], keep=2)
    return model, optimizer


def load(folder, model, optimizer):
    with open_world() as world:
        found = load_checkpoint(folder, model, optimizer, world=world)
    return None if found is None else found["step"]


def damage(folder, step, name, data, *, manifest_too=False):
    newest = folder / f"step-{step:08d}"
    (newest / name).write_bytes(data)
    if manifest_too:
        hashes = {n: hashlib.sha256((newest / n).read_bytes()).hexdigest() for n in checkpoints.FILES}
        (newest / "manifest.json").write_text(json.dumps(hashes))


@pytest.mark.parametrize("name", [*checkpoints.FILES, "manifest.json"])
def test_a_pickle_in_a_checkpoint_is_never_run_and_the_one_before_is_loaded(tmp_path, canary, name):
    save(tmp_path / "checkpoints", 4)
    model, optimizer = save(tmp_path / "checkpoints", 8)
    damage(tmp_path / "checkpoints", 8, name, pickle.dumps(Evil(canary)))
    assert load(tmp_path / "checkpoints", model, optimizer) == 4


def test_a_pickle_whose_hash_is_right_is_read_as_json_or_safetensors_only(tmp_path, canary):
    model, optimizer = save(tmp_path / "state", 8)
    damage(tmp_path / "state", 8, "state.json", pickle.dumps(Evil(canary)), manifest_too=True)
    assert load(tmp_path / "state", model, optimizer) is None
    save(tmp_path / "tensors", 8)
    damage(tmp_path / "tensors", 8, "tensors.safetensors", pickle.dumps(Evil(canary)), manifest_too=True)
    with pytest.raises(SafetensorError):
        load(tmp_path / "tensors", model, optimizer)


def flipped(folder):
    """Flips one byte of the newest checkpoint's tensors; returns the step that is loaded then."""
    save(folder, 4)
    model, optimizer = save(folder, 8)
    path = folder / "step-00000008" / checkpoints.FILES[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return load(folder, model, optimizer)


def test_a_checkpoint_with_a_flipped_bit_is_passed_over(tmp_path):
    assert flipped(tmp_path / "checkpoints") == 4


def test_without_the_manifest_a_flipped_bit_would_be_loaded(tmp_path, monkeypatch):
    manifest = {}
    monkeypatch.setattr(checkpoints, "_manifest", lambda folder: manifest)
    assert flipped(tmp_path / "checkpoints") == 8


# Links


def test_a_linked_claim_is_neither_followed_nor_replaced(store, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    first = store.plan.experiments[0]
    (store.root / "claims").mkdir()
    claim_path(store.root, first.experiment_id, 1).symlink_to(secret)
    board = Board(store, [first], this_worker())
    assert board.take() is None
    assert read_claim(store.root, first.experiment_id, 1) is None
    assert [state.state for state in run_states(store)] == ["running", "pending"]
    assert secret.read_text() == "mine"


def test_a_linked_heartbeat_is_not_written_through(store, tmp_path, caplog):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    attempt = Board(store, store.plan.experiments, this_worker()).take()
    beat_path(store.root, attempt.experiment.experiment_id, 1).symlink_to(secret)
    with Hold(attempt):
        pass
    assert "no plain file" in caplog.text
    assert read_beat(store.root, attempt.experiment.experiment_id, 1) is None
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("exists", [True, False])
def test_a_linked_result_is_not_written_through(store, tmp_path, exists):
    secret, first = tmp_path / "secret", store.plan.experiments[0]
    if exists:
        secret.write_text("mine")
    (store.root / "results").mkdir()
    (store.root / "results" / f"{first.experiment_id}.json").symlink_to(secret)
    assert store.publish_result(completed(first), attempt=1) is False
    with pytest.raises((InputError, OSError)):
        store.results()
    assert secret.exists() == exists
    assert not exists or secret.read_text() == "mine"


def test_checkpoints_that_are_a_link_are_not_removed_through_it(store, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("mine")
    run = store.plan.experiments[0]
    (store.run_dir(run.experiment_id) / "checkpoints").symlink_to(tmp_path / "mine")
    fake_training.shutil.rmtree(store.run_dir(run.experiment_id) / "checkpoints", ignore_errors=True)
    assert (tmp_path / "mine" / "thesis").read_text() == "mine"


# Ids


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", ".hidden", "", "A", "x" * 65, "a\n", "a\x00", "$\\frac{$"]
)
def test_a_plan_with_an_id_that_is_no_plain_name_is_refused_by_every_verb(store, tmp_path, capsys, name):
    path = store.root / "plans" / "1.json"
    values = json.loads(path.read_text())
    values["experiments"][0]["experiment_id"] = name
    path.write_text(json.dumps(values))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="ids name files"):
        open_store(store.root)
    for argv in (["status", store.root], ["fit", store.root], ["report", store.root, "--out", tmp_path / "r.html"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in argv])
        assert stop.value.code == 2
    assert sorted(tmp_path.rglob("*")) == before


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.handlers = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for key, value in attributes if key in ("href", "src", "action")]
        self.handlers += [key for key, _ in attributes if key.startswith("on")]


def test_runs_of_a_strangers_table_make_no_link_and_no_handler_of_the_report(tmp_path, canary):
    law = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    names = ("javascript:alert(1)", '"><img src=x onerror=alert(1)>', "../../x", "</td></table><script>x</script>")
    budget = torch.logspace(18, 20, 4).double().repeat_interleave(6).numpy()
    n = law.n_opt(budget) * torch.logspace(-0.6, 0.6, 6).double().repeat(4).numpy()
    d = budget / 6 / n
    sources = tuple(names[i % 4] + str(i) for i in range(24))
    runs = RunTable(
        compute_budget=budget, compute=budget, num_params=n, num_tokens=d, loss=law.loss(n, d), source=sources,
        condition=("",) * 24, group=sources, seed=torch.zeros(24, dtype=torch.int64).numpy(),
    )  # fmt: skip
    write_report(fit(runs, options=FitOptions(num_bootstraps=20)), tmp_path / "report" / "index.html")
    page = Links((tmp_path / "report" / "index.html").read_text())
    assert "script" not in page.tags
    assert page.handlers == []
    assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in page.links)
