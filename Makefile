# Bare `make` prints this help: the words behind ## on each target's line.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN     := bin/rapport
DATA    ?= data
LISTEN  ?= 127.0.0.1:8080
TIMEOUT ?= 15m
# How long each fuzz target runs.
FUZZTIME ?= 10s
# How long make sim-long runs.
FOR ?= 10m
# How many seeds of the node's crash tests make sim-long takes before that, from a fresh one on.
NODE_SEEDS ?= 500

# Where the server binaries are on Debian; they are not in PATH there.
INITDB = $(shell command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -n 1)
# Empty outside a clone: the binary then says that it does not know.
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null)
GOFOLDERS = $(wildcard api cmd commands docs domain internal projections readmodels)
# One line per file, whether committed or not, so that verify works in a tree
# with changes of its own.
CHECKSUMS = find . \( -path ./.git -o -path ./bin -o -path ./$(DATA) \) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum

.PHONY: help
help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what a fresh Debian machine with Go lacks; quick when there is nothing to do
	@if [ -z "$(INITDB)" ]; then deploy/install-postgres.sh; fi
	@go mod download

.PHONY: run
run: setup build ## Start everything on this machine, with a small sample to look at; Ctrl-C stops it
	$(BIN) serve --data $(DATA) --listen $(LISTEN) --sample

.PHONY: build
build: ## Build bin/rapport, one static binary
	CGO_ENABLED=0 go build -trimpath -buildvcs=false $(if $(VERSION),-ldflags '-X main.version=$(VERSION)') -o $(BIN) ./cmd/rapport

.PHONY: test
test: setup ## Run the tests
	go test -timeout $(TIMEOUT) ./...

.PHONY: race
race: setup ## Run the tests under the race detector
	go test -race -timeout $(TIMEOUT) ./...

# What talks to an event node, in the order in which a fault is cheapest to find.
STRICT = ./internal/eventlog ./internal/bus ./internal/reactor ./internal/importer ./internal/logcopy ./commands/... ./projections/... ./api/...

.PHONY: test-docs
test-docs: setup ## Compile and run the examples of docs/extending.md in a copy of the sources
	RAPPORT_TEST_DOCS=1 go test -timeout $(TIMEOUT) ./docs

.PHONY: test-strict
test-strict: setup ## Run the tests on nodes that behave as real engines do
	RAPPORT_TEST_NODE=strict go test -timeout $(TIMEOUT) $(STRICT)
	RAPPORT_TEST_NODE=strict go test -timeout $(TIMEOUT) -run Server ./cmd/rapport

.PHONY: check
check: fmt-check lint verify test test-docs test-strict ## All that must pass before a change lands; what CI runs

.PHONY: lint
lint: ## Look for mistakes: go vet, staticcheck
	go vet ./...
	go tool staticcheck ./...

.PHONY: fmt
fmt: ## Format the Go files
	gofmt -w $(GOFOLDERS)

.PHONY: fmt-check
fmt-check:
	@unformatted=$$(gofmt -l $(GOFOLDERS)); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run make fmt):"; echo "$$unformatted"; exit 1; fi

.PHONY: generate
generate: ## Write the generated files anew: schemas, the event catalogue
	go generate ./...

.PHONY: verify
verify: ## Fail when generated files are stale
	@before=$$($(CHECKSUMS)); go generate ./...; after=$$($(CHECKSUMS)); \
	if [ "$$before" != "$$after" ]; then \
		echo "generated files were stale; go generate has now written:"; \
		diff <(echo "$$before") <(echo "$$after") | sed -n 's/^[<>] [0-9a-f]*  /  /p' | sort -u; exit 1; \
	fi

.PHONY: fuzz
fuzz: ## Fuzz each decoder of outside bytes for FUZZTIME (10s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file" | while read -r name; do \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
		done; \
	done

.PHONY: sim
sim: ## Simulate faults: make sim SEED=7 repeats a seed and prints every step
	@cd cmd/sim && RAPPORT_SIM_SEED=$(SEED) go test -count=1 -run '^TestSimulation$$' -v .

.PHONY: sim-long
sim-long: ## Crash the node's disk for NODE_SEEDS (500) seeds, then simulate faults with new ones for FOR (10m), or until Ctrl-C
	@RAPPORT_SIM_SEED=$$RANDOM RAPPORT_SIM_SEEDS=$(NODE_SEEDS) go test -count=1 -timeout 0 -run 'Crash|Torn|Flipped' ./internal/esnode
	@cd cmd/sim && RAPPORT_SIM_LONG=1 RAPPORT_SIM_FOR=$(FOR) go test -count=1 -timeout 0 -run '^TestSimulationLong$$'

.PHONY: sim-guards
sim-guards: ## Break each guard in a copy of the tree, and require that a test notices
	@go run ./cmd/sim

.PHONY: repro
repro: ## Repeat every fault that was found and mended
	@go test -count=1 -timeout $(TIMEOUT) -run '^TestRepro' -v ./... | { grep -E '^(--- |    |FAIL|panic)' || true; }

.PHONY: capabilities
capabilities: setup ## Run the scenario tests, and print which rows of docs/capabilities.md work, partly work, or do not yet
	@go test -count=1 -json -timeout $(TIMEOUT) -run '^Test[AN][0-9]+_' \
		$$(grep -rlE '^func Test[AN][0-9]+_' --include='*_test.go' . | xargs -n 1 dirname | sort -u) | go run ./internal/capability docs/capabilities.md

.PHONY: bench
bench: setup ## Measure, and print a report in Markdown that names the machine
	@go run ./cmd/bench

.PHONY: clean
clean: ## Remove what building and testing made; data/ stays
	rm -rf bin
	find . -name .git -prune -o -type f \( -name '*.test' -o -name '*.prof' \) -print -exec rm -f {} +
