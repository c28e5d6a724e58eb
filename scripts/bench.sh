#!/usr/bin/env bash
# `make bench`: measures on this machine; see crates/terraphim_ci/benches/vm/main.rs. With arguments, those groups only
# (scripts/bench.sh commands steps). The last line is JSON.
set -euo pipefail
cd "$(dirname "$0")/.."
export TCI_TEST_IMAGES="$PWD/target/tci-test"
# The whole workspace each time, so that nothing is built again with the features of one crate.
cargo build --release --locked --workspace
for image in busybox debian; do
  target/release/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done
if [ $# -eq 0 ]; then
  . scripts/act.sh
  echo "-- language: an expression (10 us wanted), a file of 1 MiB (50 ms), a matrix of 256 jobs (20 ms)"
  cargo bench --locked --workspace --bench speed
  echo "-- engine: a job of 200 steps beside act (from PyPI), a log with 50 secrets, 1,000 jobs"
  cargo bench --locked --workspace --bench engine
  echo "-- display: a run of 1,000 jobs on a terminal"
  cargo bench --locked --workspace --bench display
  cargo bench --locked --workspace --bench learning
  echo "-- learning: forecasts on held-out streams, classes of labelled histories, false alarms, signatures of mutated logs"
  cargo test --locked --quiet --workspace --lib -- \
    --nocapture held_out precision_and_recall alarms_of_duration a_thousand_mutations
fi
cargo bench --locked --workspace --bench vm -- "$@"
