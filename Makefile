# One verb a task; `make` alone lists them. CONTRIBUTING.md says more.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The oldest cargo that builds this; the same number is rust-version in Cargo.toml.
CARGO_LEAST := 1.95
# Where the last `make test` is kept, so that skipped tests can be listed after it.
TARGET := $(or $(CARGO_TARGET_DIR),target)
TEST_LOG := $(TARGET)/make-test.log
HOSTS_LOG := $(TARGET)/make-hosts.log
# Docker engines and nginx need root; without it those tests skip themselves, by name.
ROOT := $(filter 0,$(shell id -u))

# Of `make sim`.
SEEDS ?= 20000
# Of `make schedules`: how many, the first one, and how many fleets play them side by side.
SCHEDULES ?= 200
SEED ?= 1
FLEETS ?= 2
# Cells of `make faults` that `make test` tries; others every day.
SAMPLE := 12

.PHONY: help cargo demo setup test fmt clippy tidy deny check sim mutants faults hosts schedules bench deb apt-repo try-install

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cargo:
	@have=$$(cargo --version 2>/dev/null | awk '{print $$2}') || true; \
	if [[ -z $$have ]]; then \
	  echo "cargo is not here. Cutover is built with cargo $(CARGO_LEAST) or newer; rustup installs it" >&2; exit 1; \
	elif [[ $$(printf '%s\n' $(CARGO_LEAST) "$$have" | sort -V | head -n 1) != $(CARGO_LEAST) ]]; then \
	  echo "cargo is $$have; Cutover needs $(CARGO_LEAST) or newer: rustup update stable" >&2; exit 1; \
	fi

demo: cargo ## Show a sick version being taken back, and what Docker Swarm makes of it, on this machine (root)
	@tests/setup
	@cargo build --workspace
	@cargo run --quiet -p cutover-tests --bin demo

setup: ## Install what the tests need beyond cargo: a Docker engine, nginx (root, apt); starts nothing
	@tests/setup

test: cargo ## Run every test but those on whole hosts; say at the end which were skipped, and why
	@$(if $(ROOT),tests/setup,tests/setup --check || true)
	@mkdir -p $(TARGET)
	@# Programs and tests in one build; they are started by their files, as cargo would build some of them anew.
	cargo build --workspace --all-targets
	$(TARGET)/debug/sim --seeds $(SEEDS)
	cargo test --workspace --no-fail-fast 2>&1 | tee $(TEST_LOG)
	$(TARGET)/debug/faults --sample $(SAMPLE) 2>&1 | tee -a $(TEST_LOG)
	@if grep -a '^SKIPPED' $(TEST_LOG); then echo "These tests were skipped."; else echo "No test was skipped."; fi

fmt: cargo ## Format all code
	cargo fmt --all

clippy: cargo
	cargo clippy --workspace --all-targets -- -D warnings

tidy: cargo ## Check the rules of the house: walls, words, dependencies, licences, examples
	cargo test --quiet -p cutover-tidy -- --show-output

deny: cargo ## Check dependencies with cargo-deny (cargo install --locked cargo-deny, some minutes, once)
	cargo deny --offline check licenses bans sources

check: cargo ## Check format, lints and rules; with cargo-deny where it is installed
	cargo fmt --all --check
	@$(MAKE) clippy
	@$(MAKE) tidy
	@if command -v cargo-deny >/dev/null; then $(MAKE) deny; \
	else echo "cargo-deny is not installed; licences, bans and sources were checked by make tidy."; fi

sim: cargo ## Run SEEDS simulated worlds and check every promise after every step
	cargo run --quiet -p cutover-world --bin sim -- --seeds $(SEEDS)

faults: cargo ## Try every fault in every phase of a real swap, side by side; print the table (root, some minutes)
	@tests/setup
	@cargo build --workspace
	@cargo run --quiet -p cutover-tests --bin faults -- $(FAULTS)

hosts: cargo ## Try the packages on machines that boot systemd (root, 15 minutes); HOSTS="--only reboots" a part of it, PREVIOUS=DIR with the release before
	@tests/setup --hosts
	@$(MAKE) deb
	@cargo build --quiet -p cutover-tests --bin hosts
	@$(TARGET)/debug/hosts $(TARGET)/deb/out $(if $(PREVIOUS),--previous $(PREVIOUS)) $(HOSTS) 2>&1 | tee $(HOSTS_LOG)

schedules: cargo ## Play SCHEDULES random schedules of faults on such machines (root, an hour); SEED=7 begins elsewhere
	@$(MAKE) hosts HOSTS="--schedules $(SCHEDULES) --seed $(SEED) --fleets $(FLEETS)"

mutants: cargo ## Remove each named guard of the machines in turn; some world must notice
	cargo run --quiet -p cutover-world --features mutants --bin mutants

bench: cargo ## Measure every figure against its limit and its peer (root); ONLY=swap one of them, QUICK=1 in a hurry
	@tests/setup
	@# What is measured is what is shipped; `bench` finds the programs beside itself. The first build takes some minutes.
	cargo build --profile dist -p cutover-agent -p cutover-coordinator -p cutover-cli
	cargo run --quiet --profile dist -p cutover-tests --bin bench -- $(ONLY) $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON))

deb: $(if $(CUTOVER_PROGRAMS),,cargo) ## Build the three Debian packages into TARGET/deb/out, lintian-clean; PROFILE=dev in a hurry, ARCH=arm64 across
	@$(if $(ROOT),packaging/build-debs --setup)
	@packaging/build-debs

apt-repo: ## Make a signed repository for apt of what `make deb` built, in TARGET/apt; KEY=ID signs with a key of yours
	@packaging/apt-repo

try-install: ## Install, upgrade, remove and purge what `make deb` built in a root file system of SUITE=trixie (root)
	@packaging/try-install $(or $(SUITE),bookworm)
