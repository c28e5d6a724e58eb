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

echo "== end to end over the host API"
host=$(mktemp -d "${TMPDIR:-/tmp}/tci-e2e-XXXXXX")
server=
leave() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi
  # Only a failed test leaves VMs.
  for vm in $(ls "$TCI_DATA_DIR/vms" 2>/dev/null); do target/debug/tci vm rm --force "$vm" >/dev/null || true; done
  rm -rf "$host"
}
export TCI_DATA_DIR="$host/data" XDG_CONFIG_HOME="$host/config" XDG_RUNTIME_DIR="$host"
trap leave EXIT
mkdir -p "$TCI_DATA_DIR"
ln -s "$TCI_TEST_IMAGES/images" "$TCI_TEST_IMAGES/cache" "$TCI_DATA_DIR/"
mkfifo "$host/said"
target/debug/tci serve --listen 127.0.0.1:0 >"$host/said" &
server=$!
# The one line that the server prints comes when it listens.
read -r _ _ FIRECRACKER_API_URL <"$host/said"
FIRECRACKER_AUTH_TOKEN=$(target/debug/tci token create end-to-end)
export FIRECRACKER_API_URL FIRECRACKER_AUTH_TOKEN
# The whole workspace, so that nothing is built anew with the features of one crate.
cargo test --workspace --locked --quiet --test end_to_end_test end_to_end -- --ignored
