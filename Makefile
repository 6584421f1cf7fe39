# smtpwall: `make help` lists the targets.
export CGO_ENABLED := 0
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help build demo test unit lint fuzz sim planted idle flood synflood goodput bench test-netns test-vm deps deps-test deps-vm

FUZZTIME ?= 30s
N ?= 20000
SEED ?= 1
IDLE ?= 100000
FLOOD ?= 5000000

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## one static binary: bin/smtpwall
	go build -trimpath -o bin/smtpwall ./cmd/smtpwall

demo: deps build ## mail through the firewall in three namespaces, explained (root)
	bin/smtpwall lab --nft nft

test: deps deps-test deps-vm lint build unit test-netns test-vm ## everything but the bench (root)

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l cmd pkg test)" || { gofmt -l cmd pkg test; echo "not gofmt-ed"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

unit: ## unit, replay and architecture tests, fuzz seeds
	go test $$(go list ./... | grep -v -e /test/netns -e /test/vm)

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz.sh $(FUZZTIME)

sim: ## N schedules of the TCP simulator, from SEED on; the last line is the result
	@go run ./test/sim/simulate -n $(N) -seed $(SEED)

planted: ## bugs planted into the engine one at a time, and the seed that finds each
	@go run ./test/sim/planted -n $(N) -seed $(SEED)

idle: ## octets that each of IDLE idle sessions costs
	go test -count=1 -v -run TestIdleSessions ./pkg/engine -idle $(IDLE)

flood: ## memory in a flood of FLOOD half-open connections
	go test -count=1 -v -timeout 20m -run TestFlood ./pkg/engine -flood $(FLOOD)

synflood: build deps deps-test deps-vm ## mail in a minute of SYN flood, with and without intercept, here (root) and in QEMU; exempt hosts
	go test -count=1 -v -timeout 20m -tags synflood -run "TestLimitFlood|TestLimitExempt" ./test/netns -synflood 60s
	go test -count=1 -v -timeout 25m -tags synflood -run TestSYNFlood ./test/vm/

bench: build ## packet and body benchmarks
	go test -run '^$$' -bench . -benchmem ./pkg/...

goodput: build deps deps-test deps-vm ## mail through loss and delay, inspected and exempt, here (root) and in QEMU
	go test -count=1 -v -timeout 20m -tags goodput -run TestGoodput ./test/netns/
	go test -count=1 -v -timeout 60m -tags goodput -run TestGoodput ./test/vm/

test-netns: build ## the kernel's queue, real MTAs, three namespaces (root)
	go test -count=1 ./test/netns/

test-vm: build ## a stock Debian kernel in QEMU loads the shipped files (root)
	go test -count=1 -v -timeout 20m ./test/vm/

deps: ## install the Debian packages that demo needs
	scripts/install-packages.sh scripts/packages.txt

deps-test: ## install the Debian packages that test-netns needs
	scripts/install-packages.sh scripts/test-packages.txt

deps-vm: ## install the Debian packages that test-vm needs
	scripts/install-packages.sh scripts/vm-packages.txt
