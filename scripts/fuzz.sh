#!/usr/bin/env bash
# `make fuzz`: every fuzz target for SECONDS_EACH seconds. The corpus grows in fuzz/corpus and is kept there, outside git;
# fuzz/seeds is what it starts from.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
each=${SECONDS_EACH:-600}
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "cargo-fuzz is missing: installing it with cargo install"
  cargo install --locked cargo-fuzz
fi
# The sanitizer's flags are for nightly compilers; this lets the stable one take them, for this command only.
echo "fuzz: with RUSTC_BOOTSTRAP=1, so that a stable compiler takes the sanitizer's flags"
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
  echo "== $target, $each s"
  mkdir -p "corpus/$target"
  # A run of more than ten seconds or 2 GiB is a finding.
  cargo fuzz run "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$each" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
