# Environments and builds are made once and again when what they are made of changes.
#
#   make demo        trains against float GBDT on your machine and prints a table
#   make test        the tests
#   make lint        ruff, mypy, clang-format
#   make format      rewrites the files as make lint wants them
#   make asan        the tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make fuzz-model  100,000 damaged model files, and 1,000 kills while saving
#   make distributed 1,000 drawn fits over threads and 100 over sockets, each equal to one worker's;
#                    200 workers killed and 50 stopped
#   make hostile     10,000 strangers at the rendezvous while workers meet and train
#   make clean       removes everything that make made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ASAN := build/asan

NATIVE := $(shell find csrc -name '*.h' -o -name '*.inc' -o -name '*.cpp')
BUILD_INPUTS := $(NATIVE) setup.py pyproject.toml

.PHONY: demo test lint format asan fuzz-model distributed hostile clean

demo: $(VENV)/built $(VENV)/extra-demo
	$(BIN)/python bench/demo.py

test: $(VENV)/built $(VENV)/extra-test
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/built $(VENV)/extra-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(NATIVE)

format: $(VENV)/extra-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

fuzz-model: $(VENV)/built $(VENV)/extra-test
	$(BIN)/python tests/campaigns/fuzz_model.py
	$(BIN)/python tests/campaigns/kill_save.py

distributed: $(VENV)/built $(VENV)/extra-test
	QGBDT_DISTRIBUTED_CASES=1000 $(BIN)/pytest tests/test_distributed.py $(ARGS)
	$(BIN)/python tests/campaigns/kill_workers.py

hostile: $(VENV)/built $(VENV)/extra-test
	$(BIN)/python tests/campaigns/hostile.py

clean:
	rm -rf $(VENV) $(VENV)-asan build dist *.egg-info qgbdt/_core*.so
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The environment: the package, editable, and the requirements of the extras one by one.

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/built: $(BUILD_INPUTS) | $(BIN)/python
	rm -f qgbdt/_core*.so
	$(BIN)/pip install --quiet --editable .
	touch $@

REQUIREMENTS := import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["optional-dependencies"][sys.argv[1]], sep="\n")

$(VENV)/extra-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -c '$(REQUIREMENTS)' $* | $(BIN)/pip install --quiet --requirement /dev/stdin
	touch $@

# --- The same under sanitizers: a tree of links, with its own build of the native module.

LINK_ASAN = mkdir -p $(ASAN)/qgbdt && \
	ln -sfn $(addprefix $(CURDIR)/,$(wildcard csrc tests bench docs *.py *.toml *.md)) $(CURDIR)/LICENSE $(ASAN) && \
	ln -sfn $(CURDIR)/qgbdt/*.py* $(CURDIR)/qgbdt/py.typed $(CURDIR)/qgbdt/distributed $(ASAN)/qgbdt
# libasan must come first in every process, and needs libstdc++ there to see exceptions thrown.
PRELOAD = $(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libstdc++.so)

$(VENV)-asan/built: $(BUILD_INPUTS)
	$(PYTHON) -m venv $(VENV)-asan
	rm -rf $(ASAN)
	$(LINK_ASAN)
	QGBDT_SANITIZE=1 $(VENV)-asan/bin/pip install --quiet --editable '$(ASAN)[test]'
	touch $@

asan: $(VENV)-asan/built
	$(LINK_ASAN)
	cd $(ASAN) && LD_PRELOAD='$(PRELOAD)' ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=print_stacktrace=1 $(CURDIR)/$(VENV)-asan/bin/pytest $(ARGS)
