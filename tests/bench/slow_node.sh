#!/usr/bin/env bash
# slow_node.sh - what one node that is delayed by 2 s (DELAY=MS) costs: medians of puts and gets, with it and without, in
# one run.
# A put is open, write, close. A get is open, read, close: of a key just put, and of a key that nobody touched since the
# store was mounted (looked up, opened and read from a replica for the first time).
# Healthy and slow phases alternate, so that whatever else the machine does meets both. Figures are in the lines
# that begin with '#'; nothing is judged.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-1200}
. "$(dirname "$0")/../lib/tap.sh"
rounds=${ROUNDS:-5} count=${COUNT:-400}
mount_store faults || exit 1
cat >"$work/measure.py" <<'END'
import os, sys, time
mount, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
control = mount + "/.quorumfs/nodes/4/"
def put(name, text):
    started = time.perf_counter()
    descriptor = os.open(f"{mount}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, text)
    os.close(descriptor)
    return time.perf_counter() - started
def get(name, text):
    started = time.perf_counter()
    descriptor = os.open(f"{mount}/{name}", os.O_RDONLY)
    data = os.read(descriptor, 4096)
    os.close(descriptor)
    took = time.perf_counter() - started
    assert data == text, (data, text)
    return took
def write_control(name, text):
    with open(control + name, "w") as file:
        file.write(text)
def state():
    with open(control + "state") as file:
        return file.read().strip()
if sys.argv[4] == "fill":
    os.mkdir(f"{mount}/cold")
    for i in range((rounds * 3 + 1) * count):
        put(f"cold/{i}", b"cold %d" % i)
    sys.exit()
cold = iter(range((rounds * 3 + 1) * count))
kinds = ("put", "get just put", "get untouched")
def phase(name, times):
    for i in range(count):
        text = b"%s %d %f" % (name.encode(), i, time.time())
        times["put"].append(put(f"key{i}", text))
        times["get just put"].append(get(f"key{i}", text))
        n = next(cold)
        times["get untouched"].append(get(f"cold/{n}", b"cold %d" % n))
times = {name: {kind: [] for kind in kinds} for name in ("healthy", "slow at once", "slow for a while")}
phase("warm", {kind: [] for kind in kinds})
for _ in range(rounds):
    phase("healthy", times["healthy"])
    write_control("delay", sys.argv[5])
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
for kind in kinds:
    healthy = times["healthy"][kind]
    for name, both in times.items():
        values = both[kind]
        print(f"# {kind:13} {name:17} median {at(values, .5):8.0f} us  p99 {at(values, .99):8.0f} us  worst {max(values) * 1e6:8.0f} us"
              f"  ratio of medians {at(values, .5) / at(healthy, .5):5.2f}")
END
passes "filled" limited 600 python3 "$work/measure.py" "$mnt" "$rounds" "$count" fill
unmount_store
mount_store faults || exit 1
timeout 900 python3 "$work/measure.py" "$mnt" "$rounds" "$count" run "${DELAY:-2000}" >"$work/figures"
is $? 0 "measured"
cat "$work/figures"
finish
