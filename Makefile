# Everything that developers and CI run. `make help` lists it.

SHELL := /bin/bash
MUSTER := target/debug/muster
# nextest where it is installed: one process a test, and a summary. Two tests for each processor, because most of the time
# they wait for leases to end.
RUN_TESTS := $(shell command -v cargo-nextest >/dev/null && \
	echo nextest run --no-fail-fast --test-threads $$((2 * $$(nproc))) || echo test --no-fail-fast)
MINUTES ?= 10
TRIALS ?= 50
SECONDS ?= 60
# HOME may differ from the home that rustup was installed in.
RUSTUP := $(shell setup/rustup-home)
ifneq ($(RUSTUP),)
export RUSTUP_HOME := $(RUSTUP)
endif
# The folders of ip and nft, which not every user has on the path.
export PATH := $(CURDIR)/.muster/tools/bin:$(PATH):/usr/sbin:/sbin

.PHONY: help build demo test examples-all sim mutants hostile chaos failover mixed-fleet fuzz lint deny dist arm64 bench docs setup clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## fetch what the machine lacks: nats-server, a Wasm target, the example guests
	@setup/nats-server >/dev/null
	@setup/guests

build: ## build every program
	cargo build --workspace

# Only the command: tests, simulation and benchmarks would double a newcomer's wait.
demo: setup ## the main job, told in readable lines
	cargo build -p muster-cli
	@PATH=$(CURDIR)/target/debug:$$PATH setup/demo

test: setup ## every test, with a real nats-server
	cargo build --workspace --all-targets
	cargo test --quiet --all-features -p muster -p muster-macros
	cargo test --quiet --doc -p muster-protocol
	cd examples && cargo test --quiet
	cargo $(RUN_TESTS) --workspace

examples-all: setup ## the word count in five languages: built, run and compared; and what `muster new` makes
	cargo build --workspace --all-targets
	@set -e; tools=$$(setup/languages); export PATH="$$tools:$$PATH"; for language in c go js python; do \
		began=$$(date +%s%N); \
		$(MUSTER) build examples/wordcount-$$language --out .muster/guests/wordcount-$$language.wasm; \
		echo "   built in $$((($$(date +%s%N) - began) / 1000000)) ms"; \
	done; \
	tools=$$(setup/languages) && PATH="$$tools:$$PATH" cargo $(RUN_TESTS) --workspace --test e2e $(if $(findstring nextest,$(RUN_TESTS)),--run-ignored all languages::,languages:: -- --include-ignored)

chaos: setup ## strike a fleet at random: MINUTES=10 or TRIALS=any, SEED=any LEASE=standard|fast|roaming CLUSTER=3 ONLY=kind
	@setup/netns-tools
	cargo build --workspace
	@target/debug/chaos --lease $(or $(LEASE),standard) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) \
		$(if $(filter command environment,$(origin TRIALS)),--trials $(TRIALS),--minutes $(MINUTES)) \
		$(if $(CLUSTER),--nodes $(CLUSTER) --masters 3)

failover: setup ## measure failover: TRIALS=50 SEED=any LEASE=standard|fast|roaming; both of the first unless given
	@setup/netns-tools
	cargo build --workspace
	@for lease in $(or $(LEASE),standard fast); do \
		target/debug/failover --trials $(TRIALS) --lease $$lease $(if $(SEED),--seed $(SEED)) || exit 1; \
	done

sim: ## the fleet simulated: many seeds, or one with a trace (SEED=7, SEEDS=10000)
	@cargo build --quiet --workspace --bin sim
	@target/debug/sim $(if $(SEED),--seed $(SEED),$(if $(SEEDS),--seeds $(SEEDS)))

mutants: setup ## break the protocol and the worker on purpose, and demand that a test notices (ONLY=name)
	cargo build --workspace --all-targets
	@target/debug/mutants $(ONLY)

hostile: setup ## let hostile guests loose on a worker (ONLY=part-of-a-name)
	cargo build --workspace
	@target/debug/hostile $(ONLY)

mixed-fleet: setup ## an older version and this one in one fleet: BEFORE=commit, or BEFORE_BIN=its program muster
	cargo build --workspace
	@before=$(if $(BEFORE_BIN),$(BEFORE_BIN),$$(setup/before $(BEFORE))) && target/debug/mixed-fleet --before "$$before"

fuzz: ## random bytes for every decoder: SECONDS=60 for each target or RUNS=any, ONLY=frame|api|record|module
	@setup/guests
	@setup/cargo-fuzz >/dev/null
	@for target in $(or $(ONLY),frame api record module); do \
		(cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target -- \
			$(if $(RUNS),-runs=$(RUNS),-max_total_time=$(SECONDS)) -timeout=20 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1) \
			|| exit 1; \
	done

lint: ## formatting, clippy, the links of the code's docs, and the licences and sources of dependencies
	cargo fmt --all --check
	cd examples && cargo fmt --all --check
	cd fuzz && cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
		cargo doc --workspace --no-deps --document-private-items --quiet
	$(MAKE) deny

deny: ## licences, sources and bans of dependencies
	@setup/cargo-deny >/dev/null
	cargo deny --all-features check bans licenses sources

dist: ## static programs for edge hosts, x86-64 and arm64: ARCH=aarch64 for one of them
	@setup/dist $(ARCH)

# Not included: tests that need Landlock, which the emulator lacks, and tests that measure speed.
ARM64_TESTS := failover:: echo:: operate:: grants:: guests:: restart:: frames:: objects:: retry:: metrics::a_worker
arm64: setup ## tests with real processes, in which the workers are those of arm64, emulated: make dist comes first
	@setup/qemu-arm64
	cargo build --workspace --all-targets
	MUSTER_TEST_WORKER=$(CURDIR)/target/aarch64-unknown-linux-musl/dist/muster-worker \
		cargo $(RUN_TESTS) --workspace --test e2e $(if $(findstring nextest,$(RUN_TESTS)),$(ARM64_TESTS),-- $(ARM64_TESTS))

bench: setup ## what a fleet does on this machine, in one table: PLOT=1 draws it, ONLY=part-of-a-name
	cargo build --release -p muster-cli -p muster-worker -p muster-benches --bins
	@target/release/bench $(if $(ONLY),--only $(ONLY)) $(if $(PLOT),--plot)

docs: ## the book of all pages, in .muster/book/html; fails if a link leads nowhere
	@setup/docs

clean: ## remove what was built and fetched
	rm -rf target examples/target fuzz/target fuzz/corpus .muster
