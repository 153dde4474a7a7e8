# make demo | make test | make lint | make bench | make gpu
#
# Needs Python 3.11 or newer and a package index, nothing else: the first target makes the environment .venv.
# PYTHON=/path/to/python chooses the interpreter, OUT=folder where `make demo` leaves its report, JOBS=n test processes.

VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
JOBS ?= 2
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python)
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable
INPUTS := setup.cfg pyproject.toml constraints.txt

.PHONY: help demo test lint format bench gpu clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    a real model's forward pass on this machine; the report is left in $(OUT)/"
	@echo "make test    every test"
	@echo "make lint    ruff, mypy, import-linter        make format   let ruff put it right"
	@echo "make bench   reading beside json.load, its growth, recording; does the CPU's roof hold"
	@echo "make gpu     on an NVIDIA GPU: its tests, calibration, counters, accuracy, advice, cost; left in $(GPU_OUT)/"

demo: $(VENV)/demo.stamp
	$(BIN)/diagnose demo -o $(OUT)

# worksteal keeps a module's tests together too; loadgroup and loadfile hang once a worker has died (xdist 3.8).
test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/demo.stamp
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/ceilings.py

# GPU_PYTHON=python3 takes an interpreter that has torch, numpy... already, for machines without a package index;
# GPU_WHEELS=folder brings what it lacks (msgspec, isal) as wheels. docs/gpu.md says more.
GPU_RUN := $(or $(GPU_PYTHON),$(BIN)/python)
GPU_OUT ?= out/gpu
GPU_SITE := build/gpu-site
gpu: $(if $(GPU_PYTHON),,$(VENV)/dev.stamp) $(if $(GPU_WHEELS),$(GPU_SITE)/.stamp)
	@$(GPU_RUN) -c 'import sys, torch; torch.cuda.is_available() or sys.exit(f"make gpu: torch {torch.__version__} sees no GPU on this machine")'
	PYTHONPATH=$(CURDIR):$(CURDIR)/$(GPU_SITE) $(GPU_RUN) -m benchmarks.gpu.run $(GPU_PIECES) --out $(GPU_OUT) $(GPU_FLAGS)

$(GPU_SITE)/.stamp: $(wildcard $(GPU_WHEELS)/*.whl)
	$(GPU_RUN) -m pip install --quiet --no-index --no-deps --upgrade --target $(GPU_SITE) $^
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info $(OUT)

$(BIN)/python:
	@for python in $(PYTHONS); do \
		if "$$python" -c '$(USABLE)' 2>/dev/null; then \
			echo "making $(VENV) with $$("$$python" --version) ($$python)"; \
			exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "make: no Python 3.11 or newer that can make environments (modules venv and ensurepip) among: $(PYTHONS)"; \
	echo "make: install one (Debian and Ubuntu: python3 and python3-venv), or name one: make PYTHON=/path/to/python"; \
	exit 1

$(VENV)/demo.stamp: $(INPUTS) | $(BIN)/python
	@echo "installing torch-diagnose, torch and transformers into $(VENV) (torch is large: minutes the first time)"
	@$(INSTALL) '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	@echo "installing the test and lint tools into $(VENV)"
	@$(INSTALL) '.[dev]'
	@touch $@
