#!/usr/bin/env bash
# `make soak`: the slow and repeated versions of tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export TCI_TEST_IMAGES="$PWD/target/tci-test"
# A registry of images on loopback, for containers of private images.
if ! command -v docker-registry > /dev/null; then
  echo "soak: installing docker-registry"
  as_root=""
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker-registry
fi
cargo build --workspace --all-targets --locked --quiet
for image in busybox debian debian-docker debian-testing; do
  target/debug/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done
echo "== a release has no fault points"
cargo build --release --locked --quiet --workspace
if grep -q TCI_FAULT target/release/tci; then echo "soak: target/release/tci has fault points"; exit 1; fi
cargo test --workspace --locked --no-fail-fast -- --ignored soak_
