#!/usr/bin/env bash
# Goal: a store that is mounted with other numbers of nodes and replicas serves while its data moves, goes on after
# kill -9, and ends with exactly the copies that it should have. QFS_RESIZE_KEYS: how many keys (default 3000).
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
keys=${QFS_RESIZE_KEYS:-3000}
patience=$((60 + keys / 200))

# keys.py COMMAND DIRECTORY N: fill, check, or write on and on while noting what was acknowledged.
cat >"$work/keys.py" <<'END'
import os, signal, sys
command, top, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
def path(i): return f"{top}/d{i % 20}/key{i}"
def value(i): return f"value of {i}\n"
def expected(i): # deleted, big, or small
    if i % 97 == 5: return None
    return (value(i) * 20000)[:300000] if i % 1000 == 7 else value(i)
def read(p):
    try:
        with open(p) as f: return f.read()
    except FileNotFoundError:
        return None
if command == "fill":
    for i in range(20): os.makedirs(f"{top}/d{i}", exist_ok=True)
    for i in range(n):
        with open(path(i), "w") as f: f.write(expected(i) or value(i))
    for i in range(n):
        if expected(i) is None: os.remove(path(i))
elif command == "check":
    wrong = [i for i in range(n) if read(path(i)) != expected(i)]
    print(f"{len(wrong)} wrong" + "".join(f", {path(i)}" for i in wrong[:5]))
elif command == "write":
    # Each round changes a key and reads another one back. The journal has what was acknowledged. Asked to end it
    # finishes its round: who ends between open and write leaves an empty file, as after `: > k`.
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    journal = open(sys.argv[4], "a", buffering=1)
    start = int(sys.argv[5])
    for i in range(start, start + 10**6):
        if asked: break
        p, v = f"{top}/t{i % 300}", f"round {i}\n"
        try:
            with open(p, "w") as f: f.write(v)
            if read(p) != v: journal.write(f"WRONG {p}\n")
        except OSError:
            break
        journal.write(f"{i}\n")
        if read(path(i % n)) != expected(i % n): journal.write(f"WRONG {path(i % n)}\n")
elif command == "journal":
    last, wrong = {}, []
    for line in open(sys.argv[4]):
        if line.startswith("WRONG"): wrong.append(line.strip())
        else: last[int(line) % 300] = int(line)
    # The write under way at a kill may have been applied: it is one of the next start's numbers.
    for k, i in last.items():
        got = read(f"{top}/t{k}")
        if got is None or int(got.split()[1]) < i: wrong.append(f"t{k}: {got!r}, not {i}")
    print(f"{len(wrong)} wrong" + "".join(f", {w}" for w in wrong[:5]))
END
python=(python3 "$work/keys.py")

moving() { grep -q '"moving" : true' "$mnt/.quorumfs/status.json"; }
at_rest() { ! moving && grep -q '"gc_waits_for" : null' "$mnt/.quorumfs/status.json"; }
in_force() { [ "$(status_number nodes_in_force) $(status_number replicas)" = "$1 $2" ] && ! moving; }
is_remembered() { moving || in_force 7 5; }
moves_data() { moving && [ "$(status_number moving_percent)" -gt 0 ]; }
is_at_work() { moves_data || at_rest; }
traffic() { # FIRST
  "${python[@]}" write "$mnt" "$keys" "$work/journal" "$1" 9>&- &
  writer=$!
  within 60 has_written "$1"
}
has_written() { grep -q "^$(($1 + 10))\$" "$work/journal"; } # ten rounds more
stop_traffic() {
  kill "$writer" 2>/dev/null
  wait "$writer" 2>/dev/null
}

# How many records, and chunks of live values, there are in how many copies: "5 3000" means 3000 rows at five nodes.
copies() { # QUERY
  local node
  for node in "$store"/node-*; do
    sqlite3 -readonly -cmd '.timeout 5000' "$node/replica.db" "$1"
  done | sort | uniq -c | awk '{ print $1 }' | sort -n | uniq -c | awk '{ print $2 }' | xargs
}
records="select hex(dir) || '/' || hex(name) || ' ' || timestamp from record"
chunks="select c.object_placement, c.object_unique, c.idx, c.version from chunk c
  where c.object_unique - 1 - 9223372036854775807 in (select object_unique from record where kind = 1)
     or c.object_unique + 9223372036854775807 + 1 in (select object_unique from record where kind = 1)"
chunks_in() { [ "$(copies "$chunks")" = "$1" ]; }
exactly() { [ "$(copies "$records")" = "$1" ]; }

moved() { # NODES REPLICAS
  within "$patience" at_rest && ok "everything is where it belongs" ||
    not_ok "everything is where it belongs" "$(cat "$mnt/.quorumfs/status")"
  is "$(status_number nodes_in_force) $(status_number replicas)" "$1 $2" "$1 nodes and $2 replicas are in force"
  is "$("${python[@]}" check "$mnt" "$keys")" "0 wrong" "every key is right"
  is "$("${python[@]}" journal "$mnt" "$keys" "$work/journal")" "0 wrong" "and so is all that was written meanwhile"
  within 60 exactly "$2" && ok "each record has $2 copies" || not_ok "each record has $2 copies" "$(copies "$records")"
}

touch "$work/journal"
mount_store || exit 1
"${python[@]}" fill "$mnt" "$keys"
unmount_store

# ---- 5 and 3 -> 7 and 5, killed twice on the way ----
begin=$(now_ms)
mount_store nodes=7,replicas=5 || exit 1
status=$(cat "$mnt/.quorumfs/status")
in_force 7 5 || has "$status" "moving     to 7 nodes, 5 replicas" "status tells where it goes"
traffic 0
within 60 is_at_work
kill_daemon
stop_traffic
mount_store || exit 1
passes "it is remembered after kill -9" is_remembered
traffic 100000
within 60 is_at_work
kill_daemon
stop_traffic
mount_store || exit 1
traffic 200000
within "$patience" at_rest
stop_traffic
diag "$keys keys moved from 5 nodes and 3 replicas to 7 and 5, killed twice, in $(($(now_ms) - begin)) ms"
passes "traffic went on meanwhile" test "$(wc -l <"$work/journal")" -gt 30
moved 7 5
within 60 chunks_in 5 && ok "each chunk has 5 copies" || not_ok "each chunk has 5 copies" "$(copies "$chunks")"
is "$(ls "$store" | grep -c '^node-')" 7 "seven nodes"

# ---- back to 3 and 2 ----
unmount_store
begin=$(now_ms)
mount_store nodes=3,replicas=2 || exit 1
traffic 300000
within "$patience" at_rest
stop_traffic
diag "from 7 and 5 to 3 and 2 in $(($(now_ms) - begin)) ms"
moved 3 2
within 60 chunks_in 2 && ok "each chunk has 2 copies" || not_ok "each chunk has 2 copies" "$(copies "$chunks")"
others_are_gone() { [ "$(ls "$store" | grep '^node-' | xargs)" = "node-1 node-2 node-3" ]; }
passes "the others are gone" within 60 others_are_gone
forgotten() { ! grep -q places "$store/store.conf"; }
passes "and forgotten" within 60 forgotten

# ---- without a majority of the nodes ----
unmount_store
mkdir "$work/away"
mv "$store/node-1" "$store/node-3" "$work/away"
before=$(cd "$store" && find . | sort)
fails_with 2 "only while a majority of its nodes is there" "a majority is missing" \
  "$QUORUMFS" mount -o "store=$store,nodes=5,replicas=3" "$mnt"
is "$(cd "$store" && find . | sort)" "$before" "nothing was made or changed"
mv "$work/away/"* "$store"
for node in 1 3; do # there, but of no use
  cp "$store/node-$node/replica.db" "$work/away/$node"
  head -c 20000 /dev/zero | tr '\0' g >"$store/node-$node/replica.db"
done
output=$("$QUORUMFS" mount -o "store=$store,nodes=5,replicas=3" "$mnt" 2>&1)
is $? 1 "a majority is unusable: the mount fails"
has "$(tail -1 <<<"$output")" "too few of their replicas are usable" "and says why"
passes "no new node was made" test ! -e "$store/node-4"
has "$(cat "$store/store.conf")" "nodes=3" "the store keeps its size"
for node in 1 3; do
  rm -f "$store/node-$node/"replica.*
  cp "$work/away/$node" "$store/node-$node/replica.db"
done
mount_store || exit 1
within 60 at_rest
is "$("${python[@]}" check "$mnt" "$keys")" "0 wrong" "every key is there with the old size"

# ---- a node in another directory ----
unmount_store
mount_store node2="$work/disk" || exit 1
is "$(state 2)" up "a node that is given another directory is up at once"
passes "its replica is there" test -e "$work/disk/replica.db"
passes "and no longer where it was" test ! -e "$store/node-2/replica.db"
is "$("${python[@]}" check "$mnt" "$keys")" "0 wrong" "every key is right"
unmount_store
mv "$work/disk" "$work/disk2"
mount_store node2="$work/disk2" || exit 1
is "$(state 2)" up "a node whose directory was moved by hand is up at once"
is "$("${python[@]}" check "$mnt" "$keys")" "0 wrong" "every key is right"
unmount_store
fails_with 2 "holds the replica of node 2" "another node's directory" \
  "$QUORUMFS" mount -o "store=$store,node3=$work/disk2,node2=$work/new" "$mnt"
passes "nothing was moved" test -e "$store/node-3/replica.db" -a -e "$work/disk2/replica.db" -a ! -e "$work/new"
finish
