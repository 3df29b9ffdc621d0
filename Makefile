# Every target prepares what it needs in .venv; a second run finds it there.
.DEFAULT_GOAL := help
.PHONY: help prepare demo test lint format types imports bench contract airflow mlflow lock clean

UPNEXT_HOME ?= .upnext
DATA ?= world:
SERVE ?= 1
NAME ?=
URL ?= http://127.0.0.1:8700
ARGS ?=
export UPNEXT_HOME
# Every step is a process of its own: without compiled modules each would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := $(shell command -v python3.11 || command -v python3)
UV := $(shell command -v uv || echo .cache/uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## Train, check, release and serve on DATA=world: or a real log; SERVE=0 ends after the table
	@$(BIN)/upnext demo --data "$(DATA)" $(if $(filter 0,$(SERVE)),--no-serve)

test: $(READY) ## Run every test
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q $(ARGS)

lint: $(READY) ## Check style, formatting, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Mend style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## Measure one figure beside its peer: NAME=world, with ARGS='--json FILE'
	@test -f "benchmarks/$(NAME).py" || { echo "NAME='$(NAME)' is none of: $$(ls benchmarks | sed -n 's/\.py$$//p' | grep -v '^_' | tr '\n' ' ')"; exit 2; }
	@$(BIN)/python -m "benchmarks.$(NAME)" $(ARGS)

contract: $(READY) ## Send the running service at URL whatever its contract allows and forbids
	@$(BIN)/schemathesis run $(URL)/openapi.json $(ARGS)

airflow: $(READY) ## Open the pipeline in Airflow's own pages
	@UPNEXT_DATA="$(DATA)" $(BIN)/upnext airflow

mlflow: $(READY) ## Open the runs and the releases in MLflow's own pages
	@$(BIN)/upnext mlflow

prepare: $(READY) ## Only install

lock: .cache/uv/bin/uv ## Resolve the requirements anew
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra pipeline --extra serving --extra airflow --extra kfp \
		--extra dev pyproject.toml --output-file requirements.lock

clean: ## Remove what was installed; data in UPNEXT_HOME stays
	@rm -rf .venv .cache

$(READY): requirements.lock pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v == (3, 11) or sys.exit("Upnext needs Python 3.11, %s is %d.%d" % (sys.executable, *v))'
	@test -d .venv || $(UV) venv --quiet --python "$(PYTHON)" .venv
	@echo "Installing into .venv (once)"
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.cache/uv/bin/uv:
	@$(PYTHON) -m venv .cache/uv
	@.cache/uv/bin/python -m pip --quiet --disable-pip-version-check install uv
