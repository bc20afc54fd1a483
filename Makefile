# GateKey: `make run` starts it, `make test` tests it. Each sets up what it needs first.
.DEFAULT_GOAL := help
.PHONY: help setup run test lint openapi demo bench

CARGO ?= cargo
SCRIPTS := .ci/run $(wildcard deploy/*.sh deploy/openvpn/*.sh)

help: ## Lists what there is to make.
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## Installs what is missing (Debian 12, Ubuntu 24.04).
	@deploy/setup.sh

run: ## Starts the server on http://127.0.0.1:8080, its data in ./data.
	@deploy/setup.sh build
	$(CARGO) run --bin gatekey-server -- serve

test: setup ## Runs every test; the ones with a tunnel need root.
	$(CARGO) test --workspace

lint: setup ## Formatting, clippy, shell scripts, and what may come into the build.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	shellcheck --external-sources --source-path=SCRIPTDIR $(SCRIPTS)
	@deploy/deny.sh

openapi: ## Writes docs/openapi.json and the README's table of operations, when the API has changed.
	UPDATE_OPENAPI=1 $(CARGO) test --lib api::openapi::snapshot

demo: setup ## The whole story with a real OpenVPN tunnel, on SQLite and on PostgreSQL (root).
	$(CARGO) build --bin gatekey-server
	@deploy/demo.sh

bench: setup ## Measures this machine; docs/PERFORMANCE.md says what to expect.
	$(CARGO) bench --workspace
