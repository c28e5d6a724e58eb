"""Times the same operations of `tci vm` and of maqet, each as a user calls it, in turn. Called by scripts/compare-vm.sh.

Prints a table and, as its last line, JSON. Both run QEMU with emulation or KVM as they find it; neither waits for a guest.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 10


def timed(command, environment):
    """Milliseconds on the clock and on the processor; a command that fails ends the comparison."""
    before = os.times()
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = (time.perf_counter() - begun) * 1000
    after = os.times()
    if done.returncode != 0:
        sys.exit(f"compare-vm: {' '.join(command)} ended with {done.returncode}: {done.stderr or done.stdout}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used * 1000


def operations(run, names):
    """The operations in their order, on one VM."""
    return [(name, run + names[name]) for name in ("ls", "create", "start", "status", "qmp", "stop", "rm")]


def main():
    """Compares."""
    tci, maqet, images = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tci-compare-"))
    environment = dict(os.environ, HOME=str(directory), XDG_RUNTIME_DIR=str(directory))
    data = directory / "data"
    data.mkdir()
    for name in ("images", "cache"):
        (data / name).symlink_to((images / name).resolve())
    config = directory / "vm.yaml"
    # The machine that maqet's own examples have: no disk, no guest.
    config.write_text("binary: /usr/bin/qemu-system-x86_64\narguments:\n  - m: 128M\n  - display: none\n")
    ours = operations([str(tci), "--data-dir", str(data), "vm"], {
        "ls": ["ls"],
        "create": ["create", "--name", "one", "--image", "busybox", "--memory", "128", "--network", "none"],
        "start": ["start", "--no-wait", "one"],
        "status": ["status", "one"],
        "qmp": ["qmp", "one", "query-status"],
        "stop": ["stop", "--grace", "0", "one"],
        "rm": ["rm", "one"],
    })
    # Its data is below the home directory, which is the temporary one here.
    theirs = operations([str(maqet)], {
        "ls": ["ls"],
        "create": ["add", "--vm-config", str(config), "--name", "one"],
        "start": ["start", "one"],
        "status": ["status", "one"],
        "qmp": ["qmp", "run", "one", "query-status"],
        "stop": ["stop", "one"],
        "rm": ["rm", "one", "--force"],
    })
    times = {}
    try:
        for _ in range(ROUNDS):
            for who, all_of_them in (("tci", ours), ("maqet", theirs)):
                for name, command in all_of_them:
                    times.setdefault((who, name), []).append(timed(command, environment))
    finally:
        # After a failure; otherwise there is nothing left to stop.
        for all_of_them in (ours, theirs):
            for name in ("stop", "rm"):
                subprocess.run(dict(all_of_them)[name], env=environment, capture_output=True, check=False)
        shutil.rmtree(directory, ignore_errors=True)
    report(times)


def report(times):
    """Prints medians, minima and ratios."""
    load = os.getloadavg()[0]
    print(f"{ROUNDS} rounds, load {load:.1f}; milliseconds: median (least) [processor time, median]")
    print(f"{'':8} {'tci':>28} {'maqet 0.0.15':>28} {'maqet / tci':>12}")
    rows = []
    for name in ("ls", "create", "start", "status", "qmp", "stop", "rm"):
        cells = {}
        for who in ("tci", "maqet"):
            walls, used = zip(*times[(who, name)])
            cells[who] = {"median": statistics.median(walls), "min": min(walls), "cpu": statistics.median(used)}
        texts = [f"{cell['median']:.1f} ({cell['min']:.1f}) [{cell['cpu']:.0f}]" for cell in cells.values()]
        ratio = cells["maqet"]["median"] / cells["tci"]["median"]
        print(f"{name:8} {texts[0]:>28} {texts[1]:>28} {ratio:>12.1f}")
        rows.append({"what": name, **cells, "ratio": ratio})
    print(json.dumps({"rounds": ROUNDS, "load": load, "rows": rows}))


if __name__ == "__main__":
    main()
