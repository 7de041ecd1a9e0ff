# Onceseen's commands. `make demo` and `make test` are all that a fresh machine with Python 3.11 and make needs.

PYTHON ?= python3.11
VENV ?= .venv
# Room for another CPU build of torch: an own file of requirements, or pip options in TORCH_ARGS.
TORCH_REQUIREMENTS ?= constraints-torch.txt
TORCH_ARGS ?=
PYTEST_ARGS ?=
RUN ?= build/demo/run
# Workers of a standalone cluster for `make spark-demo`; 0: Spark inside the job server.
SPARK_WORKERS ?= 0

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip
PIP_INSTALL := $(PIP) install --quiet --no-compile --retries 5
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Tests and local workers start many Python processes: without bytecode each compiles Beam and torch anew, 10 s and more.
unexport PYTHONDONTWRITEBYTECODE
TIMED := bash infra/timed.sh
PATHS := src tests pipelines benchmarks examples infra
BENCHMARKS ?= extract rewrite memory cells

.DEFAULT_GOAL := help
.PHONY: help demo detector-demo memorisation memorisation-short spark-if-java spark-jars spark-demo test test-runners test-unit check lint format type bench constraints install-demo install-test compiler clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1@\2/' | column -t -s@

demo: $(STAMPS)/demo ## install without torch, deduplicate the bundled photographs, name the report to open
	@rm -rf build/demo
	@mkdir -p build
	$(BIN)/python -m onceseen.planted.demo --photos examples/photos --output build/demo
	$(BIN)/onceseen dedup build/demo/shards --output $(RUN) --config configs/local-cpu.yaml
	$(BIN)/onceseen evaluate $(RUN) --truth build/demo/manifest.csv
	@echo "Report: $(abspath $(RUN))/report.html"

detector-demo: $(STAMPS)/demo ## find copies of training pictures among other pictures, and check what was found
	@rm -rf build/detector
	@mkdir -p build
	$(BIN)/python -m onceseen.planted.queries plant --photos examples/photos --output build/detector
	$(BIN)/onceseen dedup build/detector/training/shards --output build/detector/run --dry-run
	$(BIN)/onceseen scan build/detector/queries --reference build/detector/run --output build/detector/scan
	$(BIN)/python -m onceseen.planted.queries check build/detector build/detector/scan

memorisation-short: $(STAMPS)/test ## train two small diffusion models, with and without duplicates: what do they give back? 2 minutes
	$(BIN)/python -m examples.memorisation --short

memorisation: $(STAMPS)/test ## the whole experiment: 17 models, 3 hours and more on two cores; resumed where it was stopped
	$(BIN)/python -m examples.memorisation

test: $(STAMPS)/test spark-if-java ## install what the tests need, torch included (and Spark, where Java is), and run all
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-runners: $(STAMPS)/test $(STAMPS)/spark ## only the tests on Spark: one machine, and a cluster that loses a worker
	$(BIN)/python -m pytest tests/runners $(PYTEST_ARGS)

test-unit: $(STAMPS)/test ## only the unit and property tests
	$(BIN)/python -m pytest tests/unit tests/property $(PYTEST_ARGS)

check: lint type test-unit ## format, lint, types and unit tests: before every commit

lint: $(STAMPS)/test ## formatting and lint, nothing is changed
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)

format: $(STAMPS)/test ## format and mend what can be mended
	$(BIN)/ruff format $(PATHS)
	$(BIN)/ruff check --fix $(PATHS)

type: $(STAMPS)/test ## mypy in strict mode
	$(BIN)/mypy

spark-jars: $(STAMPS)/spark ## Spark (pyspark) and Beam's job server for it: needs Java 11 to 17 and Maven

spark-demo: $(STAMPS)/spark ## the main job on the demo's shards, on Spark on this machine; compared with `make demo`
	@rm -rf build/spark/run build/spark/demo
	$(BIN)/python -m onceseen.planted.demo --photos examples/photos --output build/spark/demo
	$(BIN)/python infra/spark/stack.py --jars build/spark/jars --workers $(SPARK_WORKERS) -- \
	  $(BIN)/onceseen dedup build/spark/demo/shards --output build/spark/run --config configs/spark.yaml
	$(BIN)/onceseen evaluate build/spark/run --truth build/spark/demo/manifest.csv
	@[ ! -d $(RUN)/shards ] || $(BIN)/python -m onceseen.jobs.outcome $(RUN) build/spark/run
	@echo "Report: $(abspath build/spark/run)/report.html"

bench: $(STAMPS)/demo ## run the benchmarks one after the other; JSON goes to build/bench
	@mkdir -p build/bench
	@set -e; for name in $(BENCHMARKS); do echo "onceseen: benchmarks/$$name.py"; \
	  $(BIN)/python benchmarks/$$name.py > build/bench/$$name.json; cat build/bench/$$name.json; done

constraints: $(STAMPS)/venv ## resolve the ranges of pyproject.toml again and write the constraints files
	@mkdir -p build
	@$(TIMED) "resolving the whole test environment" \
	  $(PIP) install --quiet --dry-run --ignore-installed --report build/resolution.json \
	  '.[aws,cpu,diffusers,fetch,gcp,hdfs,memorisation,openclip,dev]' setuptools -r infra/lock-extra.txt
	$(BIN)/python infra/lock.py build/resolution.json .
	@$(TIMED) "resolving the GPU image" \
	  $(PIP) install --quiet --dry-run --ignore-installed --report build/resolution-gpu.json \
	  -c constraints.txt '.[aws,gcp,gpu,hdfs,openclip]' -r infra/lock-gpu.txt
	$(BIN)/python infra/lock.py --gpu build/resolution-gpu.json .

install-demo: $(STAMPS)/demo ## only the environment of `make demo`

install-test: $(STAMPS)/test ## only the environment of `make test`

clean: ## remove what the commands made, the virtual environment included
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "onceseen: '$(PYTHON)' was not found. Install Python 3.11 with its venv module" >&2; \
	  echo "  (Debian 12: apt-get install python3.11 python3.11-venv) or name yours: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "onceseen: the pinned versions are for Python 3.11, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "  Name a Python 3.11: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "onceseen: '$(PYTHON)' has no venv module. Debian 12: apt-get install python3.11-venv" >&2; exit 1; }
	@$(TIMED) "making the virtual environment $(VENV)" $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

# The resolver checks the ranges against the pins here; setuptools, which builds the package, is pinned as well.
$(STAMPS)/demo: pyproject.toml constraints.txt | $(STAMPS)/venv
	@env PIP_CONSTRAINT=constraints.txt $(TIMED) "installing the main job with FAISS for CPU, about 270 MB to download" \
	  $(PIP_INSTALL) -e '.[cpu]'
	@touch $@

# --no-deps, because the files name every package: pip would otherwise add the GPU parts that torch asks for.
$(STAMPS)/test: pyproject.toml constraints.txt $(TORCH_REQUIREMENTS) | $(STAMPS)/venv compiler
	@$(TIMED) "installing the pinned packages of the tests, about 400 MB to download" \
	  $(PIP_INSTALL) --no-deps -r constraints.txt
	@$(TIMED) "installing torch for CPU, about 2.3 GB to download" \
	  $(PIP_INSTALL) --no-deps $(TORCH_ARGS) -r $(TORCH_REQUIREMENTS)
	@$(TIMED) "installing Onceseen" $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ $(STAMPS)/demo

$(STAMPS)/spark: infra/spark/pom.xml infra/spark/requirements.txt | $(STAMPS)/demo
	@command -v mvn >/dev/null 2>&1 || { \
	  echo "onceseen: 'mvn' was not found; it fetches Beam's job server. Debian: apt-get install maven" >&2; exit 1; }
	@$(TIMED) "installing Spark, about 320 MB to download" $(PIP_INSTALL) -r infra/spark/requirements.txt
	@$(TIMED) "fetching Beam's job server for Spark, about 100 MB to download" \
	  mvn -q -B -f infra/spark/pom.xml dependency:copy-dependencies -DoutputDirectory=$(abspath build/spark/jars)
	@touch $@

# Spark is tested where it can be had: without Java, Maven or a network, tests/runners are skipped and say so.
spark-if-java: | $(STAMPS)/test
	@if command -v java >/dev/null 2>&1 && command -v mvn >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory spark-jars || echo "onceseen: Spark could not be fetched; its tests are skipped" >&2; \
	else echo "onceseen: no java or no mvn in PATH; the tests on Spark are skipped" >&2; fi

compiler:
	@command -v $${CXX:-g++} >/dev/null 2>&1 && command -v $${CC:-gcc} >/dev/null 2>&1 || { \
	  echo "onceseen: gcc and g++ were not found. The tests compare with the pdqhash package, which has no wheel" >&2; \
	  echo "  for Python 3.11 and is compiled when installed. Debian: apt-get install build-essential" >&2; exit 1; }
