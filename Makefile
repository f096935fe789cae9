# Everything that is done often. Each target sets up what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PEER := .cache/peer-venv
PEER_READY := $(PEER)/.installed
KAFKA := .cache/kafka
KAFKA_READY := $(KAFKA)/.installed
SOAK_MINUTES ?= 30
# How many tests run at once: "auto" is one on each core. Many wait for a process, so that one more may be quicker.
WORKERS ?= auto
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate
# pip: nothing but what the lock file names, by its hash.
INSTALL := -m pip install --quiet --disable-pip-version-check

# A server is five processes: without stored bytecode each compiles all that it imports, for seconds, at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv serve test check bench soak fmt lock clean need-python need-openssl need-java

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## .venv with the server, its tools and tests (done by the others when needed)

serve: $(READY) ## run a server: localhost, 127.0.0.1:8008, data in ./data (or CONFIG=annals.toml)
ifdef CONFIG
	@exec $(BIN)/annals serve --config $(CONFIG)
else
	@echo "No CONFIG: a server for trying things out. http://127.0.0.1:8008, anybody may register, data in ./data."
	@ANNALS_REGISTRATION__ENABLED=$${ANNALS_REGISTRATION__ENABLED:-true} exec $(BIN)/annals serve
endif

test: $(READY) $(PEER_READY) $(KAFKA_READY) need-openssl need-java ## all tests, a file at a time on each core (ARGS="tests/matrix -x" for a part, WORKERS=3)
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy src/annals tests $(wildcard benchmarks)
	$(BIN)/lint-imports

fmt: $(READY) ## format the code, mend what ruff can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(READY) $(PEER_READY) $(KAFKA_READY) need-openssl need-java ## the figures of the README, Synapse beside them
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY) $(PEER_READY) $(KAFKA_READY) need-openssl need-java ## all tests, the long ones too, again and again with new seeds, for SOAK_MINUTES
	@end=$$(($$(date +%s) + 60 * $(SOAK_MINUTES))); \
	while [ $$(date +%s) -lt $$end ]; do \
	  $(BIN)/pytest -q -x -n $(WORKERS) --dist loadfile --hypothesis-profile=soak $(ARGS) || exit 1; done

lock: $(READY) ## write requirements/*.txt anew from pyproject.toml
	$(COMPILE) --upgrade pyproject.toml -o requirements/main.txt
	$(COMPILE) --upgrade pyproject.toml --group dev -c requirements/main.txt -o requirements/dev.txt
	$(COMPILE) --upgrade --group peer -o requirements/peer.txt

clean: ## remove what was built; leaves ./data alone
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build src/*.egg-info

need-python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Python is missing. On Debian: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old, 3.11 is needed: Debian 12 has it (or make PYTHON=python3.12)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }

need-openssl:
	@command -v openssl >/dev/null || { echo "openssl is missing. On Debian: apt-get install openssl" >&2; exit 1; }

# Java 17 and Maven: only for the Apache Kafka that the tests run on.
need-java:
	@command -v java >/dev/null && command -v mvn >/dev/null || { \
	  echo "java or mvn is missing, for the tests on Apache Kafka. On Debian: apt-get install default-jdk-headless maven" >&2; exit 1; }
	@version=$$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'); [ "$${version:-0}" -ge 17 ] || { \
	  echo "java is $${version:-unknown}, Apache Kafka needs 17. On Debian 12 or later: apt-get install default-jdk-headless" >&2; exit 1; }

$(READY): requirements/dev.txt pyproject.toml | need-python
	@echo "Setting up $(VENV) from requirements/dev.txt (about a minute the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(PEER_READY): requirements/peer.txt | need-python
	@echo "Setting up $(PEER) with Synapse, to measure beside"
	@$(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/python $(INSTALL) --require-hashes -r requirements/peer.txt
	@touch $@

# Copied beside first: what is in libs/ is whole.
$(KAFKA_READY): tests/support/kafka/pom.xml | $(READY) need-java
	@echo "Setting up $(KAFKA) with Apache Kafka, for tests (about half a minute, 45 MB from Maven Central)"
	@rm -rf $(KAFKA) && mkdir -p $(KAFKA)
	@mvn --batch-mode --quiet --file tests/support/kafka/pom.xml dependency:copy-dependencies \
	  -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(KAFKA)/libs.part
	@mv $(KAFKA)/libs.part $(KAFKA)/libs
	@$(BIN)/python -m tests.support.kafka.prepare
	@touch $@
