"""scale.py: what quorumfs costs as it grows: with the number of keys, the size of values, the nodes, and the nodes down.

All stores of a part are mounted side by side and measured in turn. Started by run.sh scale."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import peers
import report
from cases import Case
from measuring import measure, summary

GET = Case("get", "get, hot", "get", [])
GET_RANDOM = Case("get-random", "get by lot", "get", [], size=40, random=True)
PUT = Case("put", "put over a value", "put", [])
LIST_DIRECTORY = 1000


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) / 1024


class Store(peers.Quorumfs):
    """One that is filled before it is mounted."""

    def __init__(self, name, work, build, options="", keys=0):
        self.name, self.keys = name, keys
        super().__init__(work, build, options)

    def start(self):
        if self.keys:
            subprocess.run([os.path.join(self.build, "tests/bench/measure"), "engine:" + self.path("store"), "fill", "--keys", str(self.keys),
                            "--size", "40", "--clients", "64"], check=True, stdout=subprocess.DEVNULL)
        before = time.monotonic()
        super().start()
        self.mount_s = time.monotonic() - before


def in_turn(stores, rounds, one):
    """{store: [one(store) for each round]}, turn by turn."""
    results = {store.name: [] for store in stores}
    for number in range(rounds):
        for store in stores[number % len(stores):] + stores[:number % len(stores)]:
            results[store.name].append(one(store))
    return results


def measured(stores, rounds, case, fill=True):
    if fill:
        for store in stores:
            measure(store.build, store, case, "fill")
    results = in_turn(stores, rounds, lambda store: measure(store.build, store, case))
    return {name: summary(values, "median_us") for name, values in results.items()}


def list_ms(store):
    """A directory of 1,000 names, beside all the others."""
    before = time.monotonic()
    subprocess.run(["ls", "-ln", os.path.join(store.mount, "listed")], check=True, stdout=subprocess.DEVNULL)
    return {"ms": 1000 * (time.monotonic() - before)}


def keys_part(work, build, rounds, counts):
    stores = [Store(f"{count:,} keys", work, build, keys=count) for count in counts]
    try:
        for store in stores:
            print(f"  filling {store.name}", file=sys.stderr, flush=True)
            store.start()
            listed = os.path.join(store.mount, "listed")
            os.makedirs(listed)
            for i in range(LIST_DIRECTORY):
                open(os.path.join(listed, str(i)), "w").close()
        table = {"mount, s": {s.name: {"value": s.mount_s, "low": s.mount_s, "high": s.mount_s} for s in stores}}
        table["put over a value, µs"] = measured(stores, rounds, Case("put", "", "put", [], size=40), fill=False)
        results = in_turn(stores, rounds, lambda s: measure(build, s, Case("get", "", "get", [], size=40)))
        table["get, hot, µs"] = {name: summary(values, "median_us") for name, values in results.items()}

        def by_lot(store):
            return measure(build, store, Case("get", "", "get", [], size=40, random=True, keys=store.keys))
        table["get by lot over all keys, µs"] = {n: summary(v, "median_us") for n, v in in_turn(stores, rounds, by_lot).items()}
        table["ls -l of 1,000 of them, ms"] = {n: summary(v, "ms") for n, v in in_turn(stores, rounds, list_ms).items()}
        memory = {s.name: memory_mib(s.pid) for s in stores}
        table["memory of the daemon afterwards, MiB"] = {n: {"value": m, "low": m, "high": m} for n, m in memory.items()}
        return table, [s.name for s in stores]
    finally:
        for store in stores:
            store.stop()
            shutil.rmtree(store.dir, ignore_errors=True)


def compared(work, build, rounds, kinds, prepare=None):
    """kinds: {name: mount options}."""
    stores = [Store(name, work, build, options) for name, options in kinds.items()]
    try:
        for store in stores:
            store.start()
            measure(build, store, PUT, "fill")
            if prepare:
                prepare(store)
        return {case.title + ", µs": measured(stores, rounds, case, fill=False) for case in (GET, PUT)}, [s.name for s in stores]
    finally:
        for store in stores:
            store.stop()
            shutil.rmtree(store.dir, ignore_errors=True)


def nodes_part(work, build, rounds, _):
    return compared(work, build, rounds, {"1 node": ",nodes=1,replicas=1", "3 nodes, 2": ",nodes=3,replicas=2", "5 nodes, 3": ",nodes=5,replicas=3",
                                          "5 nodes, 5": ",nodes=5,replicas=5", "9 nodes, 5": ",nodes=9,replicas=5"})


def down_part(work, build, rounds, _):
    def take_down(store):
        for node in range(1, int(store.name[0]) + 1):
            with open(os.path.join(store.mount, f".quorumfs/nodes/{node}/state"), "w") as file:
                file.write("down\n")
    return compared(work, build, rounds, {"0 of 5 down": "", "1 of 5 down": "", "2 of 5 down": ""}, take_down)


def sizes_part(work, build, rounds, _):
    store = Store("one", work, build)
    sizes = {"16 B": 16, "1 KiB": 1024, "16 KiB": 16384, "64 KiB": 65536, "256 KiB": 262144, "1,020 KiB": 1044480}
    try:
        store.start()
        table = {"get, hot, µs": {}, "put over a value, µs": {}}
        results = {(operation, name): [] for operation in ("get", "put") for name in sizes}
        for _ in range(rounds):
            for name, size in sizes.items():
                case = Case("", "", "get", [], size=size, keys=20)
                measure(build, store, case, "fill")
                for operation in ("get", "put"):
                    results[operation, name].append(measure(build, store, case, operation))
        for (operation, name), values in results.items():
            table["get, hot, µs" if operation == "get" else "put over a value, µs"][name] = summary(values, "median_us")
        return table, list(sizes)
    finally:
        store.stop()
        shutil.rmtree(store.dir, ignore_errors=True)


PARTS = {"keys": keys_part, "sizes": sizes_part, "nodes": nodes_part, "down": down_part}


def main():
    parser = argparse.ArgumentParser(prog="run.sh scale", description="What quorumfs costs as it grows; ratios to the first column.")
    parser.add_argument("--part", choices=PARTS, action="append", help="this part alone; may be repeated")
    parser.add_argument("--keys", type=int, action="append", help="numbers of keys of the part keys (10000, 100000, 1000000); may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--dir", default="/var/tmp", help="where the stores lie meanwhile (/var/tmp)")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    work = tempfile.mkdtemp(prefix="quorumfs-scale-", dir=given.dir)
    data = {}
    try:
        for name in given.part or PARTS:
            table, columns = PARTS[name](work, given.build, given.rounds, given.keys or [10_000, 100_000, 1_000_000])
            data[name] = table
            rows = []
            for title, values in table.items():
                first = values[columns[0]]["value"]
                rows.append([title] + [report.number(values[column]["value"]) + (f" ({report.number(values[column]['value'] / first)})" if first else "")
                                       for column in columns])
            print()
            report.print_table(rows, [""] + columns)
        if given.json:
            with open(given.json, "w") as file:
                json.dump(data, file, indent=1)
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
