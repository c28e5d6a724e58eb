#!/usr/bin/env bash
# `make compare-vm`: the same operations on VMs with `tci vm` and with maqet 0.0.15 (PyPI), in turn on this machine.
# Ends with 3 and says why where maqet cannot be installed: nothing was compared then.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.0.15
venv=target/compare-venv

refuse() { echo "compare-vm: nothing was compared: $*" >&2; exit 3; }

# maqet asks for Python 3.12.
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; }
if [ ! -x "$venv/bin/maqet" ]; then
  python=
  for candidate in python3.13 python3.12 python3 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python; do
    if new_enough "$candidate"; then python=$candidate; break; fi
  done
  [ -n "$python" ] || refuse "maqet $version needs Python 3.12 or newer, and there is none here"
  "$python" -m venv "$venv" || refuse "cannot make a virtual environment with $python"
  # It does not declare typing_extensions, which it imports.
  "$venv/bin/pip" install --quiet "maqet==$version" typing_extensions \
    || { rm -rf "$venv"; refuse "pip cannot install maqet $version (no network?)"; }
fi
"$venv/bin/maqet" --help >/dev/null || refuse "maqet $version does not run here"

cargo build --release --locked --workspace --quiet
target/release/tci --data-dir "$PWD/target/tci-test" image build busybox
exec "$venv/bin/python" scripts/compare_vm.py target/release/tci "$venv/bin/maqet" target/tci-test
