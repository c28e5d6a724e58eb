#!/usr/bin/env bash
# `make test`: builds, makes the guest images that the tests start VMs from, and runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."

# Images are made once and shared by all tests, which only read them. Everything else a test keeps in a directory of its own.
export TCI_TEST_IMAGES="$PWD/target/tci-test"

echo "== build"
cargo build --workspace --all-targets --locked --quiet

echo "== guest images"
for image in busybox debian; do
  target/debug/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done

echo "== tests"
cargo test --workspace --locked --quiet
