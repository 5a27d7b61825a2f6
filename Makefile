# Everything that is done more than once. Needs rustup's cargo; Python 3 and Node 20 for the SDK tests.
# Whatever has to be installed goes into ./.cache of this checkout and nowhere else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CACHE := $(CURDIR)/.cache
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
CARGO_DENY_VERSION := 0.20.2

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 10

# --- Running -------------------------------------------------------------------------------------

.PHONY: run
run: ## build, then serve config.example.json on 127.0.0.1:8080; needs no key
	cargo build --release --locked
	@printf '\nIn another terminal:\n\n  %s\n\n' \
	  "curl -s http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d '{\"model\":\"mock/hello\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'"
	@exec '$(TARGET)/release/keyway' serve --config config.example.json

# --- Tests ---------------------------------------------------------------------------------------

# One profile for the tests and for the binary that they drive: a second one would double the time
# of a clean build. The last line adds up every harness; the exit code is cargo's.
.PHONY: test
test: tools ## everything: unit, integration, documentation and SDK tests
	@mkdir -p '$(CACHE)'
	@code=0; \
	cargo test --locked --no-fail-fast 2>&1 | tee '$(CACHE)/test.log' || code=$$?; \
	awk -v code=$$code -f tests/count.awk '$(CACHE)/test.log'; \
	exit $$code

# The clients of the SDK tests. A missing interpreter is not an error here: the test that needs it
# says so, and fails when KEYWAY_REQUIRE_ALL=1.
.PHONY: tools
tools: $(CACHE)/venv/.installed $(CACHE)/contract/.installed $(CACHE)/node/.installed $(CACHE)/strace/.installed $(CACHE)/redis/.installed ## install the official SDKs, schemathesis, strace and redis into ./.cache

# Two installations: what the one needs is not what the other is pinned to.
$(CACHE)/venv/.installed: tests/sdk/python/requirements.txt
$(CACHE)/contract/.installed: tests/contract/requirements.txt
$(CACHE)/venv/.installed $(CACHE)/contract/.installed:
	@if ! command -v python3 >/dev/null; then echo 'not installed: $< needs python3'; exit 0; fi; \
	rm -rf '$(@D)'; \
	{ python3 -m venv '$(@D)' \
	  && PIP_CACHE_DIR='$(CACHE)/pip' '$(@D)/bin/python' -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<; \
	} || { echo 'not installed: $< (see above)'; rm -rf '$(@D)'; exit 0; }; \
	touch '$@'

$(CACHE)/node/.installed: tests/sdk/node/package.json tests/sdk/node/package-lock.json
	@if ! command -v npm >/dev/null; then echo 'not installed: the Node SDKs need node and npm'; exit 0; fi; \
	rm -rf '$(@D)'; mkdir -p '$(@D)'; cp $^ '$(@D)'; \
	npm ci --prefix '$(@D)' --cache '$(CACHE)/npm' --ignore-scripts --no-audit --no-fund --loglevel=error \
	  || { echo 'not installed: the Node SDKs (see above)'; rm -rf '$(@D)'; exit 0; }; \
	ln -sfn ../../../.cache/node/node_modules tests/sdk/node/node_modules; \
	touch '$@'

# For tests in which system calls fail. The machine's own is as good; a package of Debian's is taken
# apart where there is none, which needs no root.
$(CACHE)/strace/.installed:
	@rm -rf '$(@D)'; mkdir -p '$(@D)'
	@if command -v strace >/dev/null; then :; \
	elif command -v apt-get >/dev/null && cd '$(@D)' && apt-get download -qq strace libunwind8; then \
	  for package in *.deb; do dpkg-deb -x "$$package" .; done; rm -f *.deb; \
	else echo 'not installed: strace'; exit 0; fi; \
	touch '$@'

# For limits that several gateways share: a Redis of our own, never one that runs here already.
$(CACHE)/redis/.installed:
	@rm -rf '$(@D)'; mkdir -p '$(@D)'
	@if command -v redis-server >/dev/null; then :; \
	elif command -v apt-get >/dev/null && cd '$(@D)' \
	  && apt-get download -qq redis-server redis-tools libjemalloc2 liblzf1 libatomic1 liblua5.1-0 lua-bitop lua-cjson; then \
	  for package in *.deb; do dpkg-deb -x "$$package" .; done; rm -f *.deb; \
	else echo 'not installed: redis'; exit 0; fi; \
	touch '$@'

# --- Gates ---------------------------------------------------------------------------------------

.PHONY: check
check: fmt clippy test doc deny ## what a change has to pass

.PHONY: fmt clippy doc deny
fmt: ## formatting, checked
	cargo fmt --check

clippy: ## lints of every target, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

doc: ## documentation builds without a warning
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

deny: $(CACHE)/cargo-deny/bin/cargo-deny ## duplicate crates, licences, sources
	'$<' --locked check bans licenses sources

$(CACHE)/cargo-deny/bin/cargo-deny:
	cargo install --locked --quiet cargo-deny --version $(CARGO_DENY_VERSION) --root '$(CACHE)/cargo-deny' --target-dir '$(CACHE)/cargo-deny/target'
	@rm -rf '$(CACHE)/cargo-deny/target'

# --- Generated files and numbers -----------------------------------------------------------------

.PHONY: schema
schema: ## write schemas/ from the types and the table of management routes
	@mkdir -p schemas '$(CACHE)'
	cargo run --locked --quiet -- schema > '$(CACHE)/config.schema.json'
	mv '$(CACHE)/config.schema.json' schemas/config.schema.json
	cargo run --locked --quiet -- schema --openapi > '$(CACHE)/openapi.json'
	mv '$(CACHE)/openapi.json' schemas/openapi.json

.PHONY: bench
bench: ## keyway against a bare hyper proxy, in alternation; about three minutes on two cores
	cargo bench --locked --bench bench

.PHONY: clean
clean: ## remove all that was built or installed
	cargo clean
	rm -rf '$(CACHE)' tests/sdk/node/node_modules
