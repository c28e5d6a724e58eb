#!/usr/bin/env bash
# `make soak`: the slow and repeated versions of tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export TCI_TEST_IMAGES="$PWD/target/tci-test"
cargo build --workspace --all-targets --locked --quiet
for image in busybox debian; do
  target/debug/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done
TCI_TEST_CYCLES=200 cargo test --locked --package terraphim_ci --test per_vm
cargo test --workspace --locked -- --ignored soak_
