# Squall's commands. `make help` lists them.

# Third-party builds are shared between clones: Cargo's target directory lies outside of them unless it is set.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/squall/target
CARGO ?= cargo
# Data directory of `make run`.
DATA_DIR ?= $(HOME)/.local/share/squall

.PHONY: help deps build run cluster cluster-down test bench lint fix

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Install what building and testing need
	@scripts/deps.sh build

build: deps ## Build the release binaries
	$(CARGO) build --release --locked -p node -p cli

run: build ## Start a single box and watch a timer rule's executions; Ctrl-C stops it
	@exec "$(CARGO_TARGET_DIR)/release/squall" dev --demo --log-level warn --data-dir "$(DATA_DIR)"

cluster: ## Start three nodes, their servers and a load balancer on this machine, to try
	@scripts/deps.sh cluster
	$(CARGO) build --release --locked -p node -p cli -p servers
	@scripts/cluster.sh up

cluster-down: ## Stop what `make cluster` started
	@scripts/cluster.sh down

test: ## Run everything that must pass: format, lints, unit and end-to-end tests
	@scripts/deps.sh test
	@scripts/test.sh

bench: build ## Measure the figures of the README on this machine
	$(CARGO) build --release --locked -p benches
	"$(CARGO_TARGET_DIR)/release/squall-bench"

lint: ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fix: ## Format
	$(CARGO) fmt --all
