# Everything that is done to this project by a command. `make test` is what CI runs.

PYTHON ?= python3
VENV := target/venv
export DSMQ_TEST_PYTHON := $(abspath $(VENV)/bin/python)
# The later dsmq of the same name, which speaks WebSocket.
VENV_WEBSOCKET := target/venv-websocket
export DSMQ_TEST_PYTHON_WEBSOCKET := $(abspath $(VENV_WEBSOCKET)/bin/python)
# jeromq, for a program in Java.
JARS := target/jeromq
export DSMQ_TEST_JEROMQ := $(abspath $(JARS))
# Inputs that the fuzz targets are given by `make test`; `make fuzz RUNS=10000000` gives more.
RUNS ?= 200000
# Cases of the model-based suite, and schedules of the waiting and waking code.
CASES ?= 100000
SCHEDULES ?= 10000
# How often `make kills` kills a server, and how many files `make damage` damages.
KILLS ?= 1000
DAMAGES ?= 200
# How many messages go through the servers that `make servers` kills, and how often `make failovers` lets a
# master fail.
MESSAGES ?= 200000
FAILOVERS ?= 20
# How often `make power` cuts the power, and every how manyth operation `make faults` lets fail.
CUTS ?= 100
EVERY ?= 1

.PHONY: test lint features doc unit instructions model schedules fuzz kills damage power faults servers failovers bench spam stalls bound memory screenshot bench-tools tools clean

test: tools lint features doc unit instructions model schedules fuzz

lint:
	cargo fmt --all -- --check
	cargo fmt --manifest-path fuzz/Cargo.toml -- --check
	cargo fmt --manifest-path shuttle/Cargo.toml -- --check
	cargo clippy --all-targets -- -D warnings

# What is promised of the smaller builds: the client alone, and the server without this and that.
features:
	cargo clippy --lib --no-default-features -- -D warnings
	cargo clippy --lib --bins --no-default-features --features server -- -D warnings
	cargo clippy --lib --bins --no-default-features --features redis -- -D warnings
	tests/client_depends_on_little.sh

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# With all tests that a bare `cargo test` leaves out.
unit:
	cargo test -- --include-ignored

# Instructions of one request, compared with benches/instructions.txt; WRITE=1 replaces that file.
instructions:
	cargo bench --bench compare -- --instructions $(if $(WRITE),--write)

# Every rule of the broker against a model of it, with random actions of several sessions.
model:
	DSMQ_MODEL_CASES=$(CASES) cargo test --release --lib model -- --include-ignored

# The waiting and waking code under a scheduler that tries many orders.
schedules:
	SCHEDULES=$(SCHEDULES) SHUTTLE_SILENCE_WARNINGS=1 cargo run --quiet --manifest-path shuttle/Cargo.toml

# A server is killed again and again over one store file, and must keep what it promised.
kills:
	DSMQ_KILLS=$(KILLS) cargo test --release --test tests suite::durability::kill::confirmed_changes -- --nocapture

# Store files are damaged, and what is damaged must not be handed out.
damage:
	DSMQ_DAMAGES=$(DAMAGES) cargo test --release --test tests suite::durability::damage -- --nocapture

# The power is cut under a store's file. Linux, with a C compiler; so is the next.
power:
	DSMQ_POWER_CUTS=$(CUTS) cargo test --release --test tests suite::durability::power -- --nocapture

# A store's writes, syncs and allocations fail, one after the other.
faults:
	DSMQ_FAULTS_EVERY=$(EVERY) cargo test --release --test tests suite::durability::faults -- --nocapture

# Servers over one Redis, and over a Redis Cluster, and their takers are killed.
servers:
	DSMQ_REDIS_MESSAGES=$(MESSAGES) cargo test --release --test tests suite::cluster::killed -- --include-ignored --nocapture --test-threads 1

# Masters of a Redis Cluster fail while puts are confirmed.
failovers:
	DSMQ_FAILOVERS=$(FAILOVERS) cargo test --release --test tests suite::cluster::failovers -- --include-ignored --nocapture

# The fuzzer needs compiler flags that are unstable; RUSTC_BOOTSTRAP lets a stable one take them.
fuzz: fuzz-json fuzz-coremq fuzz-zmtp fuzz-pickle

fuzz-%:
	RUSTC_BOOTSTRAP=1 cargo fuzz run $* -- -runs=$(RUNS) -max_total_time=120 -max_len=4096 -verbosity=0 -print_final_stats=1

# Rates beside those of other servers, in memory and in a file: docs/explanation/benchmarks.md.
bench: bench-tools
	cargo bench --bench compare

# O3one's pub_spam with pyzmq, beside a bare server of libzmq.
spam: $(VENV)/installed
	cargo build --release
	$(VENV)/bin/python benches/pub_spam.py target/release/dsmq

# The longest put while much is removed.
stalls:
	cargo bench --bench compare -- --stalls

# What --max-store bounds, and what is left after a purge.
bound:
	cargo bench --bench compare -- --bound

# What the process keeps resident: after large messages, after a purge, with silent connections.
memory: $(VENV)/installed
	cargo build --release
	$(VENV)/bin/python benches/memory.py

# docs/page.png: the page of a server in use.
screenshot: tools
	cargo build --release
	$(VENV)/bin/python tests/python/screenshot.py target/release/dsmq docs/page.png

# The servers that dsmq is compared with.
bench-tools: tools
	@command -v beanstalkd >/dev/null && command -v nats-server >/dev/null && command -v wrk >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq beanstalkd nats-server wrk; } || \
	  { echo "make: install Debian's beanstalkd, nats-server and wrk, or run as root" >&2; exit 1; }

# What the tests need beside Rust, by package name and version.
tools: $(VENV)/installed $(VENV_WEBSOCKET)/installed $(JARS)/jeromq.jar
	@command -v redis-server >/dev/null && command -v nc >/dev/null && command -v bash >/dev/null && command -v sqlite3 >/dev/null && command -v curl >/dev/null && command -v openssl >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq curl redis-server netcat-openbsd openssl sqlite3; } || \
	  { echo "make: install Debian's curl, redis-server, netcat-openbsd, openssl and sqlite3, or run as root" >&2; exit 1; }
	@command -v node >/dev/null && command -v javac >/dev/null && command -v go >/dev/null && command -v cc >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs default-jdk-headless golang-go gcc libc6-dev; } || \
	  { echo "make: install Debian's nodejs, default-jdk-headless, golang-go and gcc, or run as root" >&2; exit 1; }
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; } || \
	  { echo "make: install Debian's chromium, or run as root" >&2; exit 1; }
	@command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -y -qq valgrind; } || \
	  { echo "make: install Debian's valgrind, or run as root" >&2; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz --version 0.13.2

# A package of PyPI carries it; Debian's own is of a time before ZMTP 3.
$(JARS)/jeromq.jar: $(VENV)/installed
	mkdir -p $(JARS)
	$(VENV)/bin/pip download --quiet --disable-pip-version-check --no-deps --dest $(JARS) apache-toree==0.5.0
	tar -xzf $(JARS)/apache-toree-0.5.0.tar.gz -O apache-toree-0.5.0/toree/lib/toree-assembly-0.5.0-incubating.jar > $@

$(VENV)/installed: Makefile
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check dsmq==0.2.0 pyzmq==27.3.0 schemathesis==4.32.5
	$(VENV)/bin/pip install --quiet --disable-pip-version-check playwright==1.65.2 axe-playwright-python==0.1.8
	touch $@

$(VENV_WEBSOCKET)/installed: Makefile
	$(PYTHON) -m venv $(VENV_WEBSOCKET)
	$(VENV_WEBSOCKET)/bin/pip install --quiet --disable-pip-version-check dsmq==1.4.1 websockets==17.4
	touch $@

clean:
	cargo clean
