# The README's two commands. Each makes its own environment; nothing else is needed before them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test slow chaos lint clean

demo: $(VENV)/installed
	$(BIN)/flops-fit run train.workers=auto

test: $(VENV)/installed
	$(BIN)/python -m pytest -q -m "not slow and not gpu"

# In two halves side by side, which wait for other processes more than they compute.
WAITING = tests/launching tests/pipeline tests/slurm
slow: $(VENV)/installed
	mkdir -p build
	$(BIN)/python -m pytest -q -m "slow and not gpu" $(WAITING) > build/slow.txt 2>&1 & waiting=$$!; \
	$(BIN)/python -m pytest -q -m "slow and not gpu" $(WAITING:%=--ignore=%); code=$$?; \
	wait $$waiting || code=1; cat build/slow.txt; exit $$code

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
