# The two commands: "make run" and "make test". Both do first what is missing.

GO      ?= ./scripts/go
LINT    = $(GO) tool -modfile=tools/go.mod golangci-lint
STRIP   = -trimpath -ldflags "-s -w$(if $(VERSION), -X main.version=$(VERSION))"
FUZZ    ?= 10s
SOURCES = go.mod go.sum $(shell find cmd client internal sandbox wire -name '*.go')

.PHONY: man release run test build setup setup-test conformance bench bench-short size lint vet fuzz clean shim setup-shim install-shim pod test-shim test-trixie run-arm64 setup-test-arm64 test-arm64 test-arm64-short examples

## run: boot a machine and run a command in it
run: setup
	bin/agentctl run -- sh -c 'uname -sr; cat /proc/1/comm'

## test: every test, on real machines too
test: setup-test vet
	@scripts/test ./...

## build: bin/agentd and bin/agentctl, which has agentd inside
build: bin/agentctl

bin/agentd: $(SOURCES)
	CGO_ENABLED=0 $(GO) build $(STRIP) -o $@ ./cmd/agentd

# The agent for machines of the other architecture, which agentctl contains too.
HOSTARCH = $(or $(GOARCH),$(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64))
FOREIGN  = $(if $(filter arm64,$(HOSTARCH)),amd64,arm64)

bin/agentd-$(FOREIGN): $(SOURCES)
	CGO_ENABLED=0 GOARCH=$(FOREIGN) $(GO) build $(STRIP) -o $@ ./cmd/agentd

bin/agentctl: bin/agentd bin/agentd-$(FOREIGN)
	cp bin/agentd sandbox/agentd
	GOARCH= $(GO) run sandbox/compress.go bin/agentd-$(FOREIGN) sandbox/agentd.foreign.zst
	CGO_ENABLED=0 $(GO) build -tags "embed_agentd embed_foreign" $(STRIP) -o $@ ./cmd/agentctl

PREFIX  ?= /usr/local
SHIMSRC = $(shell find shim -name '*.go') shim/go.mod shim/go.sum
POD     = bin/pod/sbin/agentd-pod

## shim: containerd's shim and the program of its pods, in bin
shim: setup-shim bin/containerd-shim-agentd-v2 $(POD) bin/pod/bin/busybox

setup-shim: setup
	@scripts/setup shim

bin/containerd-shim-agentd-v2: bin/agentctl $(SHIMSRC)
	cd shim && CGO_ENABLED=0 ../scripts/go build -tags embed_agentd $(STRIP) -o ../$@ ./cmd/containerd-shim-agentd-v2

# Static, because nothing but itself and busybox is in the machine's root.
$(POD): $(SHIMSRC)
	cd shim && CGO_ENABLED=1 ../scripts/go build -tags "seccomp netgo osusergo" -trimpath -ldflags '-s -w -extldflags "-static"' -o ../$@ ./cmd/agentd-pod

bin/pod/bin/busybox: /bin/busybox
	mkdir -p $(@D)
	install -m 755 /bin/busybox $@
	cd $(@D) && for a in $$(./busybox --list); do [ $$a = busybox ] || ln -sf busybox $$a; done

## install-shim: the shim where containerd finds it, and agentctl to look into pods, below PREFIX (/usr/local)
install-shim: shim
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/agentd
	install -m 755 bin/containerd-shim-agentd-v2 bin/agentctl $(DESTDIR)$(PREFIX)/bin/
	rm -rf $(DESTDIR)$(PREFIX)/lib/agentd/pod
	cp -a bin/pod $(DESTDIR)$(PREFIX)/lib/agentd/pod

## pod: a containerd of its own, and a pod of two containers in one machine
pod: shim
	@scripts/pod

## test-shim: the shim's tests, beneath a real containerd too
test-shim: shim
	cd shim && ../scripts/go vet ./... && AGENTD_REQUIRE_PODS=1 ../scripts/go test -count=1 ./...
	cd shim/internal/trial/manifests && ../../../../scripts/go test ./...

## test-trixie: a machine by Debian 13's kernel, QEMU and virtiofsd, on any Debian
test-trixie: setup
	@scripts/trixie

## run-arm64: the same in an emulated machine for arm64
run-arm64: setup
	@scripts/setup arm64
	bin/agentctl run --platform linux/arm64 -- uname -srm

setup-test-arm64: setup
	@scripts/setup test-arm64

## test-arm64: the tests of machines on emulated ones for arm64, with both kernels; CONFORMANCE=0.6.8 for the published agent
test-arm64: setup-test-arm64
	AGENTD_PLATFORM=linux/arm64 AGENTD_CONFORMANCE=$(CONFORMANCE) scripts/test -count=1 ./internal/vmtest/suite $(if $(CONFORMANCE),,./internal/vmtest/boots)

## test-arm64-short: those of them that a minute allows
test-arm64-short: setup-test-arm64
	AGENTD_PLATFORM=linux/arm64 scripts/test -count=1 -run '^(TestBudgets|TestShutdown|TestMachine)$$/./bootstrap$$/^(accounts|files|code|its|environment|input|mounts|clock|host|user|limit|descriptors|default)' ./internal/vmtest/suite

## examples: a module that uses ours as any other program does, built and run
examples: setup bin/agentd
	cd examples && ../scripts/go vet ./... && AGENTCTL_AGENTD=$(CURDIR)/bin/agentd ../scripts/go run ./tour

## setup: install and fetch what building and running needs
setup:
	@scripts/setup run

setup-test:
	@scripts/setup test

## conformance: the suite against a published agent, AGENT=0.5.5, 0.6.14 or 0.7.2
conformance: setup-test
	AGENTD_CONFORMANCE=$(AGENT) scripts/test -count=1 ./internal/vmtest/suite

## size: the guest's binary and memory against their budgets
size: setup
	@scripts/size

## bench: ours and the published agents side by side; BENCH="-cpus 2" and the like
bench: setup-test
	@$(GO) run ./bench $(BENCH)

## bench-short: ours alone, a minute; fails on what is not noise
bench-short: setup-test
	@$(GO) run ./bench -short

## release: binaries, a Debian package, contents and checksums in dist; VERSION=0.1.0
release:
	scripts/release $(VERSION)

## man: manual pages, in bin/man
man:
	$(GO) run -tags man ./cmd/agentctl man bin/man

## lint: the lint set, as CI runs it; the shim's module has the same
lint:
	$(LINT) run ./...
	cd shim && ../scripts/go tool -modfile=../tools/go.mod golangci-lint run ./...

vet:
	$(GO) vet ./...

## fuzz: each fuzz target for FUZZ (10s)
fuzz:
	@scripts/fuzz $(FUZZ)

clean:
	rm -rf bin sandbox/agentd sandbox/agentd.foreign.zst
