# Environments and builds are made once and again when what they are made of changes.
#
#   make demo        trains against float GBDT on your machine and prints a table
#   make test        the tests
#   make docs        the documentation as a site, in build/docs
#   make lint        ruff, mypy, clang-format
#   make format      rewrites the files as make lint wants them
#   make test-cuda   those of NVIDIA GPUs, on one; their module is built wherever nvcc is
#   make sanitize-cuda the same under NVIDIA's checkers of memory and of races
#   make asan        the tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make tsan        those of workers and of a GPU's threads under ThreadSanitizer
#   make fuzz-model  100,000 damaged model files, 100,000 of LightGBM's, and 1,000 kills while saving
#   make laws        20,000 drawn combinations of parameters, data and samples, each held to the laws
#   make lightgbm    200 drawn models, each the same in LightGBM
#   make fuzz-frames 10,000,000 damaged messages of other workers, under both sanitizers
#   make distributed 1,000 drawn fits over threads, 100 over sockets and 50 over TLS, and 250 that
#                    evaluate, each equal to one worker's; 200 workers killed, 50 stopped, as root
#                    50 cut off, one slow for ten minutes; 100 schedules of kills and resumptions
#   make hostile     10,000 strangers at the rendezvous while workers meet and train
#   make clean       removes everything that make made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

NATIVE := $(shell find csrc -name '*.h' -o -name '*.inc' -o -name '*.cpp')
FUZZ := tests/campaigns/fuzz_frames.cpp
BUILD_INPUTS := $(NATIVE) setup.py pyproject.toml
OF_GPUS := tests/test_cuda.py tests/test_cuda_arrays.py

FUZZ_FLAGS := -std=c++20 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Wextra

.PHONY: demo test test-cuda sanitize-cuda docs lint format asan tsan fuzz-model laws lightgbm fuzz-frames distributed hostile clean

demo: $(VENV)/built $(VENV)/extra-demo
	$(BIN)/python bench/demo.py

test: $(VENV)/built $(VENV)/extra-test
	$(BIN)/pytest $(ARGS)

test-cuda: $(VENV)/built $(VENV)/extra-test
	$(BIN)/pytest $(OF_GPUS) -rs $(ARGS)

docs: $(VENV)/built $(VENV)/extra-docs
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet $(ARGS) docs build/docs

# Kernels run many times slower there: a part of the tests, on the GPU alone.
sanitize-cuda: $(VENV)/built $(VENV)/extra-test
	for tool in memcheck racecheck; do \
		compute-sanitizer --tool $$tool --error-exitcode 66 $(BIN)/python -m pytest $(OF_GPUS) -rs \
			-k 'gpu and (objectives or sparse or many_blocks or other_parameters or categories or can or layouts)' \
			$(ARGS) || exit; \
	done

lint: $(VENV)/built $(VENV)/extra-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(NATIVE) $(FUZZ)

format: $(VENV)/extra-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE) $(FUZZ)

fuzz-model: $(VENV)/built $(VENV)/extra-test
	$(BIN)/python tests/campaigns/fuzz_model.py
	$(BIN)/python tests/campaigns/fuzz_lightgbm.py
	$(BIN)/python tests/campaigns/kill_save.py

laws: $(VENV)/built $(VENV)/extra-test
	QGBDT_LAW_CASES=20000 $(BIN)/pytest -s --timeout 1800 tests/test_laws.py $(ARGS)

lightgbm: $(VENV)/built $(VENV)/extra-test
	QGBDT_LIGHTGBM_CASES=200 $(BIN)/pytest -s tests/test_lightgbm_text.py -k drawn $(ARGS)

fuzz-frames: build/fuzz_frames
	$< $(ARGS)

build/fuzz_frames: $(FUZZ) csrc/frames.cpp csrc/histogram_codec.cpp $(NATIVE)
	mkdir -p build
	$(CXX) $(FUZZ_FLAGS) -Icsrc $(wordlist 1,3,$^) -o $@

distributed: $(VENV)/built $(VENV)/extra-test
	QGBDT_DISTRIBUTED_CASES=1000 $(BIN)/pytest tests/test_distributed.py tests/test_tls.py \
		tests/test_workers_evaluate.py $(ARGS)
	$(BIN)/python tests/campaigns/kill_workers.py
	$(BIN)/python tests/campaigns/kill_resume.py

hostile: $(VENV)/built $(VENV)/extra-test
	$(BIN)/python tests/campaigns/hostile.py

clean:
	rm -rf $(VENV) $(VENV)-asan $(VENV)-tsan build dist *.egg-info qgbdt/_c*.so
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The environment: the package, editable, and the requirements of the extras one by one.

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/built: $(BUILD_INPUTS) | $(BIN)/python
	rm -f qgbdt/_c*.so
	QGBDT_CUDA=$(if $(shell command -v nvcc),1,0) $(BIN)/pip install --quiet --editable .
	touch $@

REQUIREMENTS := import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["optional-dependencies"][sys.argv[1]], sep="\n")

$(VENV)/extra-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -c '$(REQUIREMENTS)' $* | $(BIN)/pip install --quiet --requirement /dev/stdin
	touch $@

# --- The same under sanitizers: trees of links, each with its own build of the native module.

LINK = mkdir -p build/$*/qgbdt && \
	ln -sfn $(addprefix $(CURDIR)/,$(wildcard csrc tests bench docs *.py *.toml *.md)) $(CURDIR)/LICENSE build/$* && \
	ln -sfn $(CURDIR)/qgbdt/*.py* $(CURDIR)/qgbdt/py.typed $(CURDIR)/qgbdt/distributed build/$*/qgbdt
# A sanitizer must come first in every process, and needs libstdc++ there to see exceptions thrown.
PRELOAD = LD_PRELOAD='$(shell $(CXX) -print-file-name=lib$(1).so) $(shell $(CXX) -print-file-name=libstdc++.so)'
SANITIZER_asan := address
SANITIZER_tsan := thread

$(VENV)-%/built: $(BUILD_INPUTS)
	$(PYTHON) -m venv $(VENV)-$*
	rm -rf build/$*
	$(LINK)
	QGBDT_SANITIZE=$(SANITIZER_$*) $(VENV)-$*/bin/pip install --quiet --editable 'build/$*[test]'
	touch $@

asan: %: $(VENV)-%/built
	$(LINK)
	cd build/$* && $(call PRELOAD,asan) ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=print_stacktrace=1 $(CURDIR)/$(VENV)-$*/bin/pytest $(ARGS)

OF_WORKERS := $(addprefix tests/test_,distributed.py join.py socket_comm.py)

# libgomp is not instrumented: what it hands to a thread would look like a race, so it gets none. Nor
# does this sanitizer stand the addresses that newer kernels choose at random, or threads in a fork,
# in which the campaigns' workers live.
tsan: %: $(VENV)-%/built
	$(LINK)
	cd build/$* && $(call PRELOAD,tsan) TSAN_OPTIONS=exitcode=66 OMP_THREAD_LIMIT=1 \
		QGBDT_DISTRIBUTED_CASES=30 setarch --addr-no-randomize \
		$(CURDIR)/$(VENV)-$*/bin/pytest $(OF_WORKERS) $(OF_GPUS) \
		-k 'not share and not slow and not was_lost and not cuda or races' $(ARGS)
