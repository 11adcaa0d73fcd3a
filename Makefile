# `make help` lists the targets. Nothing is needed but make and Python >= 3.10; uv is used where it is installed.
PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
RUN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-lowest check lint format methods docs wheel gpu-wheels clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  variables: PYTHON=python3.12, TORCH_INDEX=<package index with CPU wheels of torch>, ARGS='reg=none seed=1'"

setup: .venv/.ready ## build .venv with carlt and its tools

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than 3.10; use make PYTHON=<newer python>"; exit 2; }
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
		$(if $(TORCH_INDEX),uv pip install --python $(RUN)/python --compile-bytecode --index-url $(TORCH_INDEX) torch torchvision &&) \
		uv pip install --python $(RUN)/python --compile-bytecode -e '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && \
		$(if $(TORCH_INDEX),$(RUN)/python -m pip install --index-url $(TORCH_INDEX) torch torchvision &&) \
		$(RUN)/python -m pip install --quiet -e '.[dev]'; \
	fi
	@touch $@

train: setup ## the main job: CAR on the bundled long-tailed digits (under a minute); ARGS adds overrides
	@# One thread: the digits' network is too small to share, and threads that wait for a busy core slow it tenfold.
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN)/python -m carlt.train $(ARGS)

test: setup ## the test suite (minutes on 2 cores)
	@OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2 --dist loadscope $(ARGS)

test-slow: setup ## the long tests alone
	@OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m 'slow and not gpu' $(ARGS)

test-lowest: ## the suite with the lowest versions that pyproject.toml allows, in .venv-lowest (needs uv); try PYTHON=python3.10
	@uv venv --quiet --allow-existing --python $(PYTHON) .venv-lowest
	@# lightning 2.4 is named because uv would rather take a later one than an older `packaging`.
	@uv pip install --quiet --python .venv-lowest/bin/python --compile-bytecode --resolution lowest-direct -e '.[dev]' 'lightning==2.4.0'
	@# Old packages among new ones warn of what they will lose.
	@OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2 --dist loadscope \
		-W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning $(ARGS)

check: lint test ## format, lint, types, import floors, tests

lint: setup ## format, lint, types and import floors, without tests
	@$(RUN)/ruff format --check . && $(RUN)/ruff check . && MYPY_NUM_WORKERS=2 $(RUN)/mypy && $(RUN)/lint-imports

format: setup ## rewrite the files as `make lint` wants them
	@$(RUN)/ruff format . && $(RUN)/ruff check --fix .

methods: setup ## write the table of methods in docs/methods.md, from training steps
	@OMP_NUM_THREADS=1 $(RUN)/python experiments/methods_table.py

docs: setup ## build the documentation site in site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet --site-dir site
	@echo 'site/index.html'

gpu-wheels: ## collect the packages that experiments/gpu/run.py needs on a machine without a network; ARGS=3.11: its Python
	@experiments/gpu/wheels.sh $(ARGS)

wheel: setup ## build dist/*.whl
	@$(RUN)/python -m build --wheel

clean: ## remove .venv, caches and build output; run folders stay
	rm -rf .venv .venv-lowest build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
