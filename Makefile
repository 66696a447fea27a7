# ditlens: type `make help`. Works with GNU make and with the make of macOS.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Pick another Python with `make PYTHON=/path/to/python3 ...`.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10 python)
SUITABLE := import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 15))

# Packages to install: `make install EXTRAS=all,cluster` adds Ray (80 MB to download).
EXTRAS ?= all
# Tests run in as many processes as there are cores, at most 4, of one thread each: `make test WORKERS=2`.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$((cores < 4 ? cores : 4)))

.DEFAULT_GOAL := help
.PHONY: help install demo lab test check notebooks bench bench-model bench-sizes bench-capture bench-edit bench-geometry clean
.PHONY: docs wheel test-wheel test-browser playground bench-house bench-faults bench-analyse bench-views bench-course bench-site course

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Create .venv and install the pinned packages (the other commands do it by themselves)

$(INSTALLED): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	    for python in $(PYTHONS); do \
	        if $$python -c '$(SUITABLE)' 2>/dev/null; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo 'error: no Python 3.10 to 3.14 with the venv module was found.' >&2; \
	        echo 'Install one (on Debian and Ubuntu: apt install python3 python3-venv),' >&2; \
	        echo 'or name yours: make PYTHON=/path/to/python3 $(MAKECMDGOALS)' >&2; \
	        exit 1; \
	    fi; \
	    echo "Creating $(VENV) with $$($$found --version)"; \
	    $$found -m venv --clear $(VENV); \
	fi
	@echo 'Installing the pinned packages: a few minutes the first time'
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(INSTALLED) ## Edit a portrait and print what changed; pictures go to outputs/demo
	@$(BIN)/ditlens demo --force

lab: $(INSTALLED) ## Open JupyterLab on notebooks/ (more options: make lab ARGS="--port=9999")
	@$(BIN)/jupyter labextension disable --level=sys_prefix '@jupyterlab/apputils-extension:announcements' 2>/dev/null
	@$(BIN)/jupyter lab --LabApp.news_url=None \
	    --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	    --ServerApp.root_dir='$(CURDIR)' --FileContentsManager.preferred_dir='$(CURDIR)/notebooks' $(ARGS)

check: $(INSTALLED) ## Everything that CI runs: format, lint, types, imports, tests (ARGS="tests/unit -x" for some)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15 $(ARGS)

test: check ## The same as make check

wheel: $(INSTALLED) ## Build dist/ditlens-*.whl, with the portraits model in it
	@rm -rf build
	@$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation -w dist .

test-wheel: $(INSTALLED) ## Install the wheel in a fresh environment, offline and read-only, and use it (2 minutes)
	@$(BIN)/python -m pytest -m 'slow or not slow' $(ARGS) tests/packaging

test-browser: EXTRAS = all,app,browser
test-browser: $(INSTALLED) ## Test the editor in headless Chromium: JupyterLab and Voilà (4 minutes; screenshots in outputs/browser)
	@$(BIN)/python -c 'import playwright, voila, anywidget' 2>/dev/null \
	    || $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@$(BIN)/python -m pytest -m browser --durations 5 $(ARGS) tests/browser

playground: EXTRAS = all,fast
playground: $(INSTALLED) ## Build the playground, a page that runs the model in a browser: outputs/playground (1 minute; needs npm)
	@$(BIN)/python -c 'import onnx, onnxscript, onnxruntime' 2>/dev/null \
	    || $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@$(BIN)/ditlens playground --build-only --out outputs/playground

docs: EXTRAS = all,docs
docs: $(INSTALLED) ## Build the site into outputs/site, offline, and check it (half a minute; Python 3.11 or newer)
	@$(BIN)/python -c 'import sphinx, myst_nb, pydata_sphinx_theme' 2>/dev/null \
	    || $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@rm -rf outputs/site outputs/site.doctrees
	@$(BIN)/python -m sphinx -q -c docs -d outputs/site.doctrees -w outputs/site.warnings . outputs/site
	@$(BIN)/python docs/check.py outputs/site

notebooks: $(INSTALLED) ## Build all notebooks from their sources, run them, and save them as they are committed
	@$(BIN)/python tests/notebooks/execute.py

bench-model: $(INSTALLED) ## Measure the portraits model again (minutes)
	@$(BIN)/python -m benchmarks.model

bench-sizes: $(INSTALLED) ## Train four sizes of the transformer for equal times: quality beside time (80 minutes)
	@$(BIN)/python -m benchmarks.sizes $(ARGS)

bench-capture: $(INSTALLED) ## Measure what capturing costs (minutes; with ARGS="--only KEY" a part)
	@$(BIN)/python -m benchmarks.capture $(ARGS)

bench-edit: $(INSTALLED) ## Measure EMS beside the other editing methods (hours; ARGS="--ems 100 --others 30" for less)
	@$(BIN)/python -m benchmarks.edit $(ARGS)

bench-geometry: $(INSTALLED) ## Time and memory of edits at the geometry of SD3.5-medium and FLUX.1-dev (needs a GPU)
	@$(BIN)/python -m benchmarks.geometry $(ARGS)

bench-house: $(INSTALLED) ## Measure the package itself: imports, size, wheel, errors, tests (20 minutes; ARGS="--only KEY")
	@$(BIN)/python -m benchmarks.house $(ARGS)

bench-faults: $(INSTALLED) ## Measure how faults end that were found from outside (30 minutes; ARGS="--only KEY")
	@$(BIN)/python -m benchmarks.faults $(ARGS)

bench-analyse: $(INSTALLED) ## Measure what the analysis finds and how fast (minutes; ARGS="--only KEY")
	@$(BIN)/python -m benchmarks.analyse $(ARGS)

bench-views: $(INSTALLED) ## Measure the editor and the explorer (minutes; ARGS="--only KEY")
	@$(BIN)/python -m benchmarks.views $(ARGS)

bench-course: $(INSTALLED) ## Measure the notebooks: run, graded, away from home (20 minutes; ARGS="--only KEY")
	@$(BIN)/python -m benchmarks.course $(ARGS)

bench-site: $(INSTALLED) ## Measure the fast backend, the playground and the site (20 minutes; make playground docs first; ARGS="--only KEY")
	@$(BIN)/python -m benchmarks.site $(ARGS)

course: $(INSTALLED) ## Write all editions of the notebooks to outputs/course: learners, teachers, graders, figures
	@for edition in student solution teacher nbgrader otter figures; do \
	    $(BIN)/ditlens course outputs/course/$$edition --edition $$edition --force $(ARGS) || exit 1; \
	done

bench: $(INSTALLED) ## Print all benchmark results against their targets, and write docs/benchmarks.md
	@$(BIN)/python -m benchmarks.report

clean: ## Remove caches, build leftovers and the demo's pictures; keeps .venv
	rm -rf build dist ./*.egg-info .grimp_cache .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov outputs/demo
	find ditlens tests benchmarks notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune \
	    -exec rm -rf {} + 2>/dev/null || true
