"""Help names the verbs in the order of use, the presets, the laws and the options of the fit."""

import dataclasses
import re

import pytest

import flops_fit
from flops_fit.cli import version
from flops_fit.cli.help import law_titles
from flops_fit.fitting import FitOptions
from flops_fit.presets import preset_names


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")


def test_verbs_stand_in_the_order_of_use(call):
    code, out, _ = call("--help")
    assert code == 0
    listed = re.findall(r"^\W*(run|plan|train|status|fit|predict|report|config|doctor) ", out, re.MULTILINE)
    assert listed == ["run", "plan", "train", "status", "fit", "predict", "report", "config", "doctor"]


@pytest.mark.parametrize("verb", ["fit", "predict"])
def test_the_fitting_verbs_list_every_law_and_every_option(call, verb):
    code, out, _ = call(verb, "--help")
    assert code == 0
    for name, title in law_titles():
        assert re.search(rf"^  {name} +{re.escape(title)}", out, re.MULTILINE)
    for field in dataclasses.fields(FitOptions):
        assert re.search(rf"^  {field.name}=\S+ +\w", out, re.MULTILINE), field.name
    assert re.search(r"huber_delta=0.001 +Where Huber turns", out)


def test_every_listed_law_can_be_chosen():
    for name, _ in law_titles():
        FitOptions(law=name)


@pytest.mark.parametrize("argv", [["run"], ["plan"], ["config", "show"]])
def test_the_planning_verbs_list_every_preset(call, argv):
    code, out, _ = call(*argv, "--help")
    assert code == 0
    for group, names in preset_names().items():
        assert re.search(rf"^  {group} +{', '.join(names)}", out, re.MULTILINE)


def test_the_version_names_the_commit_of_a_checkout(call, monkeypatch):
    monkeypatch.setattr("flops_fit.cli.version.source_commit", lambda: "0123456789ab")
    assert call("--version")[1] == f"flops-fit {flops_fit.__version__} (commit 0123456789ab)\n"


def test_an_installed_package_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(flops_fit, "__file__", str(tmp_path / "flops_fit" / "__init__.py"))
    assert version.source_commit() is None
    assert version.version_text() == f"flops-fit {flops_fit.__version__}"
