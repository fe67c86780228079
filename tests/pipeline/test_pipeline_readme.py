"""The quick start: its commands compose, and its figures are those of the stored metrics."""

import re
import shlex

import pytest
from support import REPO

from flops_fit.pipeline.configuration import load_pipeline_config
from flops_fit.pipeline.settings import FLAGS
from flops_fit.pipeline.stages import STAGES

README = (REPO / "examples/pipeline/README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    flops-fit pipeline (.*)$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_quick_start_composes(line):
    verb, *arguments = shlex.split(line, comments=True)
    assert verb in {"run", *(stage.name for stage in STAGES)}
    flags, overrides = {}, []
    words = iter(arguments)
    for word in words:
        if word == "--resume":
            flags["resume"] = True
        elif word.startswith("--"):
            name = word[2:].replace("-", "_")
            assert name in FLAGS
            value = next(words)
            value = int(value) if value.isdigit() else value
            flags[name] = [*flags.get(name, []), value] if name == "corpus_path" else value
        else:
            overrides.append(word)
    load_pipeline_config(overrides, flags)
