#!/usr/bin/env bash
# `make demo`: builds tci and a guest image, then runs the workflows of examples/ in real VMs.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1
tci=target/release/tci

echo "== building tci (minutes the first time)"
cargo build --release --locked --package terraphim_ci

echo "== guest image (a few minutes the first time)"
"$tci" --data-dir "$data" image build debian

for workflow in examples/*.yml; do
  echo
  echo "== tci run $workflow"
  "$tci" --data-dir "$data" run "$workflow"
done
