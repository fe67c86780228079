# The README's two commands. Each makes its own environment; nothing else is needed before them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test slow chaos lint clean

demo: $(VENV)/installed
	$(BIN)/flops-fit run train.workers=auto

test: $(VENV)/installed
	$(BIN)/python -m pytest -q -m "not slow and not gpu"

slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m "slow and not gpu"

# Kills, stops and errors at random, with a seed and figures in build/chaos.json; options: CHAOS="--kills 1000 --seed 7".
# Then two ranks of real training, killed so often: RANK_KILLS=20 for a short one (some 20 seconds each).
RANK_KILLS ?= 200
chaos: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/chaos/run.py $(CHAOS)
	$(BIN)/python tests/chaos/ranks.py --kills $(RANK_KILLS)

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# constraints.txt names torch too: without a version, pip would bring several GB of CUDA wheels.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
