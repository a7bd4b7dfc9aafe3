#!/usr/bin/env bash
# slow_node.sh - what one node that is delayed by 2 s costs: medians of puts and gets, with it and without, in one run.
# Healthy and slow phases alternate, so that whatever else the machine does meets both. Figures are in the lines
# that begin with '#'; nothing is judged.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-1200}
. "$(dirname "$0")/../lib/tap.sh"
mount_store faults || exit 1
cat >"$work/measure.py" <<'END'
import os, sys, time
mount, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
control = mount + "/.quorumfs/nodes/4/"
def put(i, text):
    descriptor = os.open(f"{mount}/key{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    started = time.perf_counter()
    os.write(descriptor, text)
    took = time.perf_counter() - started
    os.close(descriptor)
    return took
def get(i, text):
    started = time.perf_counter()
    descriptor = os.open(f"{mount}/key{i}", os.O_RDONLY)
    data = os.read(descriptor, 4096)
    took = time.perf_counter() - started
    os.close(descriptor)
    assert data == text, (data, text)
    return took
def write_control(name, text):
    with open(control + name, "w") as file:
        file.write(text)
def state():
    with open(control + "state") as file:
        return file.read().strip()
def phase(name, times):
    for i in range(count):
        text = b"%s %d %f" % (name.encode(), i, time.time())
        times["put"].append(put(i, text))
        times["get"].append(get(i, text))
times = {name: {"put": [], "get": []} for name in ("healthy", "slow at once", "slow for a while")}
phase("warm", {"put": [], "get": []})
for _ in range(rounds):
    phase("healthy", times["healthy"])
    write_control("delay", "2000")
    phase("slow", times["slow at once"])
    time.sleep(2)
    phase("slower", times["slow for a while"])
    write_control("delay", "0")
    deadline = time.time() + 60
    while state() != "up" and time.time() < deadline:
        time.sleep(0.1)
def at(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] * 1e6
for kind in ("put", "get"):
    healthy = times["healthy"][kind]
    for name, both in times.items():
        values = both[kind]
        print(f"# {kind} {name:17} median {at(values, .5):8.0f} us  p99 {at(values, .99):8.0f} us  worst {max(values) * 1e6:8.0f} us"
              f"  ratio of medians {at(values, .5) / at(healthy, .5):5.2f}")
END
passes "measured" python3 -c pass
timeout 900 python3 "$work/measure.py" "$mnt" "${ROUNDS:-5}" "${COUNT:-400}"
finish
