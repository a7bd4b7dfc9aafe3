"""cases.py: what is measured, of whom, and what the results are held against.

A Case is one operation with its parameters. `peers` names who can do it; `seconds` is how long each measurement takes.
Everything is repeated in rounds in which all peers follow one another, so that whatever else the machine does meets
them all alike; the figure of a case is the median of its rounds.
"""
from dataclasses import dataclass

FILES = ["quorumfs", "ext4", "minimal FUSE", "passthrough_ll", "GlusterFS"]
STORES = ["Redis everysec", "Redis always", "etcd", "SQLite", "quorumfs API"]
ALL = FILES + STORES


@dataclass
class Case:
    id: str
    title: str
    operation: str
    peers: list
    size: int = 1024
    clients: int = 1
    keys: int = 100
    seconds: float = 0.4
    random: bool = False    # keys by lot instead of in turn
    cold: bool = False      # the kernel's caches are dropped before each measurement
    figure: str = "median_us"


SIZES = {"16 B": 16, "1 KiB": 1024, "64 KiB": 65536, "1 MiB": 1 << 20}


def without(names, *gone):
    return [name for name in names if name not in gone]


def latency_cases():
    return [
        Case("get", "get, hot", "get", ALL),
        Case("get-cold", "get, caches dropped", "get-each", without(FILES, "minimal FUSE"), keys=200, cold=True),
        Case("missing", "get of a missing key", "missing", ALL),
        Case("stat", "stat", "stat", FILES),
        Case("pread", "pread, open file", "pread", FILES),
        Case("put", "put over a value", "put", without(ALL, "Redis always")),
        Case("put-new", "put of a new key", "put-new", without(ALL, "Redis always", "minimal FUSE")),
        Case("put-durable", "put and fsync", "put-durable", without(ALL, "Redis everysec", "minimal FUSE")),
        Case("append", "append", "append", without(ALL, "Redis always", "etcd", "minimal FUSE"), keys=1),
        Case("delete", "delete", "delete", without(ALL, "Redis always", "minimal FUSE")),
    ]


def size_cases():
    cases = []
    for name, size in SIZES.items():
        if size == 1024:
            continue
        cases.append(Case(f"get-{size}", f"get, hot, {name}", "get", ALL, size=size, keys=20))
        cases.append(Case(f"put-{size}", f"put over a value, {name}", "put", without(ALL, "Redis always"), size=size, keys=20))
    return cases


def client_cases():
    cases = []
    for clients in (2, 4, 8, 16):
        for operation in ("get", "put"):
            cases.append(Case(f"{operation}-{clients}c", f"{operation}, {clients} clients", operation,
                              without(ALL, "Redis always"), clients=clients, keys=160, figure="per_second"))
    return cases


def mixed_cases():
    return [Case("mixed", "95 gets to 5 puts, 8 clients: p99 of gets", "mixed", without(ALL, "Redis always"), clients=8,
                 keys=800, seconds=1.0, figure="p99_us")]


def cases(quick):
    return latency_cases() + ([] if quick else size_cases() + client_cases() + mixed_cases())


def targets(figure):
    """Yields (text, ratio or None, limit, "<=" or ">="); figure(case, peer) is in µs, or None."""
    def ratio(case, a, b):
        return figure(case, a) / figure(case, b) if figure(case, a) and figure(case, b) else None

    def inverse(case, a, b):
        r = ratio(case, a, b)
        return 1 / r if r else None

    yield "hot get / minimal FUSE", ratio("get", "quorumfs", "minimal FUSE"), 0.8, "<="
    yield "hot get / passthrough_ll", ratio("get", "quorumfs", "passthrough_ll"), 0.3, "<="
    yield "hot get / Redis GET", ratio("get", "quorumfs", "Redis everysec"), 1.0, "<="
    yield "pread of an open file / ext4", ratio("pread", "quorumfs", "ext4"), 1.3, "<="
    yield "stat / ext4", ratio("stat", "quorumfs", "ext4"), 1.3, "<="
    yield "cold get / passthrough_ll", ratio("get-cold", "quorumfs", "passthrough_ll"), 1.5, "<="
    bound = [figure("put", "minimal FUSE"), figure("put", "SQLite")]
    yield ("put / (minimal FUSE put + SQLite commit)",
           figure("put", "quorumfs") / sum(bound) if all(bound) and figure("put", "quorumfs") else None, 1.5, "<=")
    yield "GlusterFS put / put", inverse("put", "quorumfs", "GlusterFS"), 20, ">="
    yield "etcd put / put", inverse("put", "quorumfs", "etcd"), 5, ">="
    yield "etcd put / durable put", inverse("put-durable", "quorumfs", "etcd"), 2, ">="
    yield "durable put / ext4 write and fsync", ratio("put-durable", "quorumfs", "ext4"), 2, "<="
    many, one = figure("put-16c", "quorumfs"), figure("put", "quorumfs")
    yield "puts a second, 16 clients / 1 client", many * one / 1e6 if many and one else None, 3, ">="
    yield "API get / SQLite read", ratio("get", "quorumfs API", "SQLite"), 1.3, "<="
    yield "API put / SQLite commit", ratio("put", "quorumfs API", "SQLite"), 2, "<="
