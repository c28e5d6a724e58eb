# The project's commands. `make demo` and `make test` install what is missing (asking for sudo, saying so) and need only
# Rust, see README.md.
.DELETE_ON_ERROR:
.PHONY: demo test check bench compare-vm soak fuzz compare install setup

CARGO ?= cargo
# Everything that `make demo` makes stays in the clone.
DEMO_DATA := $(CURDIR)/.tci/demo

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh "$(DEMO_DATA)"

test: setup
	@scripts/test.sh

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) xtask arrows
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

bench: setup
	@scripts/bench.sh

# Beside maqet (PyPI), where that can be installed.
compare-vm: setup
	@scripts/compare-vm.sh

soak: setup
	@scripts/soak.sh

# Every fuzz target for SECONDS_EACH seconds (600 unless set). Installs cargo-fuzz when it is missing and sets
# RUSTC_BOOTSTRAP=1, without which a stable compiler refuses the sanitizer.
fuzz: setup
	@scripts/fuzz.sh

# The behaviours of testdata/workflows in VMs and with act, from PyPI unless it is installed; NAME=part of a name for some.
compare: setup
	@scripts/compare.sh $(NAME)

install: setup
	$(CARGO) install --locked --path crates/terraphim_ci
