#!/usr/bin/env bash
# Goal: a directory of very many keys is listed completely and without repeats in constant memory, also while entries come
# and go, and rm -rf of it misses nothing. ENTRIES=1000000: so many (50,000).
entries=${ENTRIES:-50000}
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-$((500 + entries / 200))}
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
load=${QUORUMFS%/*}/tests/bench/load
diag "$("$load" "$store" 5 3 "$entries" 5 "$entries")"
mount_store cached_names=20000 || exit 1
dir=$mnt/load/000
resident_kib() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$daemon/status"; }

# lister churn|quiet names|attributes: every number below `entries` is there once, and what it had to hold for that.
cat >"$work/lister.py" <<'END'
import os, resource, sys, threading
top, entries, churn, attributes = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "churn", sys.argv[4] == "attributes"
stop, changes = threading.Event(), 0


def come_and_go():
    """Names before, between and after those that stay; two of three are gone again."""
    global changes
    while not stop.is_set():
        name = "%s%d" % ("-5z"[changes % 3], entries + changes)
        with open(os.path.join(top, name), "w") as f:
            f.write("new")
        if changes % 3:
            os.unlink(os.path.join(top, name))
        changes += 1


seen, wrong, others = bytearray(entries // 8 + 1), [], 0
threads = [threading.Thread(target=come_and_go)] if churn else []
for t in threads:
    t.start()
with os.scandir(top) as listing:
    for entry in listing:
        if not entry.name.isdigit() or int(entry.name) >= entries:
            others += 1
            continue
        n = int(entry.name)
        if seen[n >> 3] & (1 << (n & 7)):
            wrong.append("twice: %d" % n)
        seen[n >> 3] |= 1 << (n & 7)
        if attributes and entry.stat(follow_symlinks=False).st_size != 5:
            wrong.append("size of %d" % n)
stop.set()
for t in threads:
    t.join()
count = sum(bin(byte).count("1") for byte in seen)
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print("%d changes meanwhile, %d other names, at most %d MiB" % (changes, others, peak_mib), file=sys.stderr)
print(count, "of", entries, wrong[:5], "small" if peak_mib < 40 else "at most %d MiB" % peak_mib)
END

# listed CHURN WHAT NAME
listed() {
  local before started
  before=$(resident_kib) started=$(now_ms)
  is "$(python3 "$work/lister.py" "$dir" "$entries" "$1" "$2" 2>"$work/listed")" "$entries of $entries [] small" "$3"
  grown=$((($(resident_kib) - before) / 1024))
  diag "$3: $(($(now_ms) - started)) ms, $(cat "$work/listed"); the daemon grew by $grown MiB to $(($(resident_kib) / 1024)) MiB"
}
listed quiet names "all names, each once"
passes "in constant memory of the daemon" test "$grown" -lt 32
listed churn names "also while others come and go"
listed quiet attributes "all names with their attributes"
passes "in constant memory of the daemon" test "$grown" -lt 48
is "$(find "$dir" -type f -name '[0-9]*' ! -name "5$entries*" -size 5c | wc -l)" "$entries" "find finds all"
listed churn attributes "attributes, while others come and go"
started=$(now_ms)
limited "$WATCHDOG_SECONDS" rm -rf "$dir"
is "$?" 0 "rm -rf"
diag "rm -rf: $(($(now_ms) - started)) ms; the daemon has $(($(resident_kib) / 1024)) MiB"
passes "misses nothing" test ! -e "$dir"
mkdir "$dir"
is "$(ls -A "$dir")" "" "and a new directory of that name is empty"
unmount_store
mount_store cached_names=20000 || exit 1
is "$(ls -A "$dir")" "" "also at the next mount"
finish
