# Every target installs what it lacks (scripts/setup) and says so; CI calls the same targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help setup run cluster image test lint fmt doc bench compat chaos containers sim clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## Install what building needs, and build RocksDB once for this machine
	@scripts/setup

run: setup ## Build and start a standalone node on 127.0.0.1:9092
	@echo "building strom (release; the first time takes some minutes)"
	@cargo build --release --locked --bin strom
	@target/release/strom standalone --data-dir data/standalone

cluster: setup ## Build and start controllers, brokers and gateways as separate processes
	@cargo build --release --locked --bin strom
	@scripts/cluster up --dir data/cluster

image: setup ## Build the container image strom:latest (BASE_IMAGE=… for another base)
	@cargo build --release --locked --bin strom
	docker build -f deploy/Dockerfile -t strom:latest $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) target/release

test: setup ## Run every test
	@scripts/test

SEEDS ?= 500
sim: setup ## Run SEEDS seeds of the deterministic simulator (docs/reliability.md)
	@cargo build -q -p strom-sim --locked
	@target/debug/strom-sim --seeds $(SEEDS)

lint: setup ## Formatting, clippy without warnings, shell scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@scripts/lint-shell

fmt: ## Format the code
	cargo fmt --all

doc: setup ## Build the API documentation without warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

bench: setup ## Run Strom against the bare skeleton of its data path, in one run
	@scripts/bench
	@scripts/bench 5 1024 3

compat: setup ## Run client programs of other families (Python, kcat, Java) against both forms
	@tests/compat/run

chaos: setup ## Break a real cluster of 3 + 3 + 2 under load and check its history (minutes)
	@cargo build --release --locked --bin strom
	@tests/chaos/run

containers: setup ## The same in containers, and the chart rendered and validated
	@cargo build --release --locked --bin strom
	@scripts/setup-docker && tests/containers/run && tests/helm/run

clean: ## Remove what was built and the data of `make run` and `make cluster`
	cargo clean
	rm -rf data
