"""bulk.py: what is measured by the time of a whole command: 1 GiB in one piece, and a listing of 100,000 files."""
import os
import subprocess
import time

import cases
import peers

IDS = ["write-1g", "read-1g", "ls"]
TITLES = {"write-1g": "write 1 GiB and fsync, s", "read-1g": "read 1 GiB, cached, s", "ls": "ls -l of 100,000 files, s"}
MIB = 1024
ENTRIES = 100_000


def directories(running, names):
    return {name: running[name].target.split(":", 1)[1] for name in names if name in running}


def timed(command):
    before = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - before


def write(path):
    return timed(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={MIB}", "conv=fsync"])


def write_rounds(running, rounds):
    places = directories(running, cases.without(cases.FILES, "minimal FUSE"))
    took = {name: [] for name in places}
    took["ext4, 3 times"] = []
    for _ in range(rounds):
        for name, place in places.items():
            took[name].append(write(os.path.join(place, "big")))
        if "ext4" in places:
            took["ext4, 3 times"].append(sum(write(os.path.join(places["ext4"], f"big{i}")) for i in range(3)))
    return took


def read_rounds(running, rounds):
    places = directories(running, cases.without(cases.FILES, "minimal FUSE"))
    command = {name: ["dd", "if=" + os.path.join(place, "big"), "of=/dev/null", "bs=1M"] for name, place in places.items()}
    for name, place in places.items():
        if not os.path.exists(os.path.join(place, "big")):
            write(os.path.join(place, "big"))
        timed(command[name])
    took = {name: [] for name in places}
    for _ in range(rounds):
        for name in places:
            took[name].append(timed(command[name]))
    return took


def fill(target, build):
    subprocess.run([os.path.join(build, "tests/bench/measure"), target, "fill", "--keys", str(ENTRIES), "--size", "16"],
                   check=True, stdout=subprocess.DEVNULL)


def list_rounds(running, rounds):
    places = directories(running, ["quorumfs", "ext4"])  # passthrough_ll holds each file that was looked up open, and may not
    for name in places:
        places[name] = os.path.join(places[name], "many")
        os.makedirs(places[name])
        fill("file:" + places[name], running[name].build)
    took = {name: [] for name in places}
    for number in range(rounds + 1):
        for name, place in places.items():
            seconds = timed(["env", "LC_ALL=C", "ls", "-ln", place])
            if number > 0:  # the first fills caches
                took[name].append(seconds)
    return took


def run(name, running, rounds, summary):
    took = {"write-1g": write_rounds, "read-1g": read_rounds, "ls": list_rounds}[name](running, rounds)
    return {peer: summary([{"seconds": s} for s in values], "seconds") for peer, values in took.items() if values}
