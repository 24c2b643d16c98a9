# Two commands for a newcomer: `make demo` and `make test`. Both do all set-up.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

# Prefect, MLflow and BentoML phone home unless told not to; nothing here needs it.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True
# Without kept byte code each process that a test or the demo starts compiles our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: decisions docs setup demo test test-slow lint bench bench-full up lock clean help

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: '$(PYTHON)' was not found. Set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: '$(PYTHON)' is another version. Set PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# The lock is complete, so pip resolves nothing; --no-deps also keeps its hash mode from tripping over extras.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $(STAMP)

setup: $(STAMP) ## install everything into .venv

demo: $(STAMP) ## the main job, end to end; USECASE=churn tells it with telephone customers
	$(BIN)/incumbent demo $(if $(USECASE),--usecase $(USECASE)) $(if $(DATA),--data $(DATA))

up: $(STAMP) ## start the whole stack and keep it up
	$(BIN)/incumbent up

lint: $(STAMP) ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) lint ## all checks and the default tests
	@# In the order of the folders: what starts servers comes first, and many small files even out the end.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP) ## the longer suite: published results on real data, the demo, drift that retrains by itself
	$(BIN)/python -m pytest -m slow

docs: $(STAMP) ## build the documents as a site; a warning, a dead link or a dead anchor fails
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -b html docs build/docs
	@echo "build/docs/index.html"

# The tables go to standard error, the JSON to files beside them.
bench: $(STAMP) ## performance claims, measured side by side; JSON in .incumbent/bench/
	mkdir -p .incumbent/bench
	$(BIN)/python -m tests.bench features --json > .incumbent/bench/features.json
	cat .incumbent/bench/features.json
	$(BIN)/python -m tests.bench serving --quick --json > .incumbent/bench/serving.json

bench-full: $(STAMP) ## all of them: four closed loops, open loops, ten minutes of soak, the profile
	mkdir -p .incumbent/bench
	$(BIN)/python -m tests.bench features --json > .incumbent/bench/features.json
	cat .incumbent/bench/features.json
	$(BIN)/python -m tests.bench serving --profile --json > .incumbent/bench/serving.json

decisions: $(STAMP) ## simulate false promotions and power, and write them to docs/explanation/statistics.md
	$(BIN)/python -m tests.bench decisions --write docs/explanation/statistics.md

# Not $(STAMP): it checks the installed set against pyproject.toml, which may already name what is to be locked.
$(BIN)/uv:
	$(MAKE) $(STAMP)

lock: $(BIN)/uv ## pin every dependency again, with hashes and without any index host
	$(COMPILE) --extra dev --extra dask pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock bentos/requirements.in -o bentos/requirements.txt

clean: ## remove state and caches, keep .venv
	rm -rf .incumbent .pytest_cache .mypy_cache .ruff_cache .hypothesis
