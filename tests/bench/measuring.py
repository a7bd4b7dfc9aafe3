"""measuring.py: running the program `measure`, and what its results become."""
import json
import os
import statistics
import subprocess
import sys
import time


class Progress:
    """A line that is rewritten on a terminal, and nothing elsewhere but the beginnings of parts."""

    def __init__(self, total):
        self.total, self.done, self.terminal = total, 0, sys.stderr.isatty()
        self.started = time.monotonic()

    def step(self, text):
        self.done += 1
        if self.terminal:
            left = (time.monotonic() - self.started) / self.done * (self.total - self.done)
            sys.stderr.write(f"\r\033[K[{100 * self.done // self.total:3d} %, {left:4.0f} s left] {text}")
            sys.stderr.flush()

    def end(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")


def measure(build, peer, case, operation=None, tag=""):
    command = [os.path.join(build, "tests/bench/measure"), peer.target, operation or case.operation,
               "--size", str(case.size), "--clients", str(case.clients), "--keys", str(case.keys),
               "--seconds", str(case.seconds), "--tag", tag] + (["--random"] if case.random else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{case.id} of {peer.name}: {done.stderr.strip()[-300:] or done.stdout.strip()}")
    result = json.loads(done.stdout)
    result["per_second"] = result["ops"] / result["seconds"]
    return result


def drop_caches():
    subprocess.run(["sync"])
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def summary(results, figure):
    values = [result[figure] for result in results]
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "rounds": results}
