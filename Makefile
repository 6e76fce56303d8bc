# Copyright The Fairlead Authors.
# SPDX-License-Identifier: Apache-2.0

# See https://tech.davis-hansson.com/p/make/
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory

BIN := $(CURDIR)/.bin
GO ?= go
# -race needs a C compiler; Go turns cgo off where there is none.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)
# Packages under test at a time: the integration packages each run real planes.
TEST_PARALLEL ?= 2
TEST_TIMEOUT ?= 20m
# Which tests «make soak» runs: a pattern for go test -run.
TEST ?= .
# Which mutants «make mutants» runs, and which targets «make fuzz»: those whose
# name, or folder, contains this.
ONLY ?=
# What buf breaking compares with.
BASE ?= main
# Must equal buildEnvironment in test/env/build.go, or everything is compiled twice.
DEVPLANE_ENV := CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' GOWORK=off

# Tools, each installed from its module when a target first needs it.
BUF := $(BIN)/buf@v1.75.0
PROTOC_GEN_GO := $(BIN)/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC := $(BIN)/protoc-gen-go-grpc@v1.6.2
CONTROLLER_GEN := $(BIN)/controller-gen@v0.23.0
GOLANGCI_LINT := $(BIN)/golangci-lint@v2.15.0
STATICCHECK := $(BIN)/staticcheck@v0.8.2
GOFUMPT := $(BIN)/gofumpt@v0.12.0

# $(call told,command) runs tests, and says last what failed, in short.
define told
	@mkdir -p $(BIN); echo '$(1)'; $(1) 2>&1 | tee $(BIN)/test.log || { \
	  echo; echo "What failed, in short; .bin/test.log has everything:"; \
	  grep -E '^ *--- FAIL: |^FAIL[[:space:]]' $(BIN)/test.log | head -n 30; \
	  grep -E -A 7 '^ *[a-z0-9_/]+\.go:[0-9:]+ |WARNING: DATA RACE|^panic: |^goleak: ' $(BIN)/test.log | cut -c 1-300 | head -n 60; \
	  exit 1; }
endef

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build hub, agent and fairlead into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: devplane ## Run every test, on real control planes where it matters (what CI runs)
	@echo "race detector: $(if $(RACE),on,off (no C compiler))"
	$(call told,$(GO) test $(RACE) -shuffle=on -p $(TEST_PARALLEL) -timeout $(TEST_TIMEOUT) ./...)
	cd cmd/devplane && $(DEVPLANE_ENV) $(GO) test -vet=off ./...

# Which packages, and how often each test.
PACKAGES ?= ./...
COUNT ?= 3

.PHONY: shuffle
shuffle: devplane ## Run tests several times in one process, in random order: PACKAGES=./agent/... COUNT=n
	$(call told,$(GO) test $(RACE) -shuffle=on -count=$(COUNT) -p 1 -timeout 24h $(PACKAGES))

# How many seeds, from which one on, and options such as '-seed 12 -off cut'.
SEEDS ?= 1000
FIRST ?= 1
SIM ?=

.PHONY: sim
sim: ## Run the deterministic simulation of hub and agent: SEEDS=n FIRST=m, or SIM='-seed 12'
	$(GO) test ./test/sim -run TestSeeds -v -count=1 -timeout 24h -seeds $(SEEDS) -first $(FIRST) $(SIM)

.PHONY: demo
demo: devplane ## Run the main job on a hub and two spokes; KEEP=1 leaves them running
	$(GO) run ./test/demo

.PHONY: mutants
mutants: devplane ## Remove each guard in turn and show which test notices; ONLY=name for some
	$(GO) run ./test/mutants -only "$(ONLY)"

# How long «make fuzz» takes for each target.
FUZZTIME ?= 1m

.PHONY: fuzz
fuzz: ## Fuzz every decoder and every method of the services: FUZZTIME=1m each, ONLY=name for some
	$(GO) run ./test/fuzz -time $(FUZZTIME) -only "$(ONLY)"

.PHONY: soak
soak: devplane ## Run the network fault and kill tests at full scale (hours); TEST=T14 for some
	FAIRLEAD_SOAK=1 FAIRLEAD_T40=1 FAIRLEAD_T43=250 \
		$(GO) test -v -count=1 -p 1 -timeout 24h -run '$(TEST)' ./test/integration/network ./test/integration/hub ./test/integration/reliability

.PHONY: bench
bench: devplane ## Measure the hub with many simulated agents
	$(GO) run ./test/scale

.PHONY: bench-placement
bench-placement: devplane ## Measure what it costs to choose clusters
	$(GO) run ./test/scale/choose -write test/scale/RESULTS-PLACEMENT.md
	$(GO) run ./test/scale/choose -loop -changes 10 -write test/scale/RESULTS-PLACEMENT.md

.PHONY: bench-spoke
bench-spoke: devplane ## Measure what many and big works cost a spoke
	$(GO) run ./test/scale/spoke

.PHONY: devplane
devplane: ## Build the Kubernetes used by tests and demo (once per machine, minutes)
	@$(GO) run ./test/env/devplane >/dev/null

.PHONY: generate
generate: $(BUF) $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC) $(CONTROLLER_GEN) ## Regenerate gen/, deep copies, CRDs, docs/conformance.md
	PATH="$(BIN):$$PATH" $(BUF) generate
	$(CONTROLLER_GEN) object paths=./internal/api/... crd paths=./internal/api/... output:crd:dir=deploy/crds/fairlead
	$(MAKE) copycrds
	$(GO) run ./test/conformance/page

# OCM's CRDs as the pinned module ships them, in folders of the same names, and
# those of the Cluster Inventory API.
.PHONY: copycrds
copycrds:
	@from="$$($(GO) list -m -f '{{.Dir}}' open-cluster-management.io/api)"; \
	rm -rf deploy/crds/ocm; cd "$$from"; \
	find addon cluster operator work -name '*.crd.yaml' | sort | while read -r file; do \
	  install -D -m 0644 "$$file" "$(CURDIR)/deploy/crds/ocm/$$file"; \
	done
	@from="$$($(GO) list -m -f '{{.Dir}}' sigs.k8s.io/cluster-inventory-api)"; \
	rm -rf deploy/crds/multicluster; install -D -m 0644 -t deploy/crds/multicluster "$$from"/config/crd/bases/*.yaml

.PHONY: checkgenerate
checkgenerate: generate ## Fail if generated files are not what the sources give
	@changed="$$(git status --porcelain -- gen deploy/crds internal/api docs/conformance.md)"; \
	if [[ -n "$$changed" ]]; then \
	  echo "Generated files differ from what is committed; run 'make generate' and commit the result:"; \
	  echo "$$changed"; exit 1; \
	fi

.PHONY: lint
lint: $(BUF) $(STATICCHECK) $(GOFUMPT) $(GOLANGCI_LINT) ## Check style: buf, gofumpt, vet, staticcheck, golangci-lint
	$(BUF) lint
	$(BUF) breaking --against '.git#branch=$(BASE)'
	@unformatted="$$(git ls-files '*.go' | grep -v '^gen/' | xargs $(GOFUMPT) -l)"; \
	if [[ -n "$$unformatted" ]]; then echo "not formatted by gofumpt:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	cd cmd/devplane && $(DEVPLANE_ENV) $(GO) vet ./...
	$(STATICCHECK) ./...
	$(GOLANGCI_LINT) run

.PHONY: tools
tools: $(BUF) $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC) $(CONTROLLER_GEN) $(GOLANGCI_LINT) $(STATICCHECK) $(GOFUMPT) ## Install every tool into .bin/

.PHONY: clean
clean: ## Remove bin/ and .bin/ (the devplane cache stays: other clones use it)
	rm -rf bin .bin

# A tool is installed under its plain name, which is how others call it, beside
# a link that carries its version, so that a new version is a new target.
define tool
$(1):
	@rm -f $$(firstword $$(subst @, ,$(1)))@*
	GOBIN="$(BIN)" GOFLAGS= $(GO) install $(2)@$$(lastword $$(subst @, ,$(1)))
	@ln -s $$(notdir $$(firstword $$(subst @, ,$(1)))) $$@
endef
$(eval $(call tool,$(BUF),github.com/bufbuild/buf/cmd/buf))
$(eval $(call tool,$(PROTOC_GEN_GO),google.golang.org/protobuf/cmd/protoc-gen-go))
$(eval $(call tool,$(PROTOC_GEN_GO_GRPC),google.golang.org/grpc/cmd/protoc-gen-go-grpc))
$(eval $(call tool,$(CONTROLLER_GEN),sigs.k8s.io/controller-tools/cmd/controller-gen))
$(eval $(call tool,$(GOLANGCI_LINT),github.com/golangci/golangci-lint/v2/cmd/golangci-lint))
$(eval $(call tool,$(STATICCHECK),honnef.co/go/tools/cmd/staticcheck))
$(eval $(call tool,$(GOFUMPT),mvdan.cc/gofumpt))
