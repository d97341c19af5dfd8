# What people type. Each target works from a clean clone on a fresh Debian machine, as root.

CARGO_TARGET_DIR ?= target
BIN := $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu/release/daymark
export CARGO_TARGET_DIR

.PHONY: setup build install up down test lint bench conformance

setup: ## install what is missing (Debian packages; never a toolchain)
	./scripts/setup

build: setup
	cargo build --release --locked --package daymark

install: build ## put daymark on the PATH
	install -m 0755 $(BIN) /usr/local/bin/daymark

up: install ## build it, start a cluster of two nodes
	daymark up --nodes 2

down:
	daymark down

test: setup ## the whole suite: unit, cases, packets, network namespaces, the tour, the browser
	./scripts/setup --test
	cargo test --locked --workspace --no-fail-fast

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

bench: install ## print figures and ratios
	./bench/run

FOCUS ?= \[sig-network\].*\[Conformance\]
conformance: install ## Kubernetes' own specs; FOCUS='regular expression' for others than the network's
	./scripts/conformance '$(FOCUS)'
