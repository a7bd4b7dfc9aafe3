#!/usr/bin/env bash
# Goal: what was deleted is forgotten when nothing can bring it back, and only then.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1

rows() { # WHERE: in all replicas together
  local n=0 i
  wait_for_tables
  for i in 1 2 3 4 5; do
    n=$((n + $(sqlite3 -readonly -cmd '.timeout 60000' "$store/node-$i/replica.db" "select count(*) from record where $1")))
  done
  echo "$n"
}
tombstones() { rows "kind = 0"; }
none_left() { [ "$(tombstones)" -eq 0 ]; }
is_settled() { grep -qx 'unsettled  0' "$mnt/.quorumfs/status"; }

mkdir "$mnt/d"
for ((i = 0; i < 300; i++)); do echo "$i" >"$mnt/d/$i"; done
for ((i = 0; i < 200; i++)); do rm "$mnt/d/$i"; done
is "$(tombstones)" 600 "a delete leaves a tombstone at each of three owners"
counted() { grep -q 'tombstones 600 rows' "$mnt/.quorumfs/status"; }
within 60 counted
has "$(cat "$mnt/.quorumfs/status")" "tombstones 600 rows" "status counts them"
is "$("$QUORUMFS" gc "$mnt")" "200 collected" "gc collects them"
is "$(tombstones)" 0 "no tombstone is left in any replica"
is "$(find "$mnt/d" -type f | wc -l)" 100 "what was not deleted is there"
has "$(cat "$mnt/.quorumfs/gc")" "200 collected" ".quorumfs/gc tells of the last run"
is "$("$QUORUMFS" gc --json "$mnt")" '{"command": "gc", "collected": 0, "reclaimed_chunks": 0}' "gc tells what it did as JSON"

# An older put is refused by a tombstone, and accepted when the key is forgotten.
"$QUORUMFS" put "$mnt/k" new --timestamp 9 >/dev/null
"$QUORUMFS" delete "$mnt/k" --timestamp 10 >/dev/null
has "$("$QUORUMFS" put "$mnt/k" old --timestamp 5)" "superseded by 10" "a tombstone is remembered against older puts"
"$QUORUMFS" gc "$mnt" >/dev/null
is "$("$QUORUMFS" put "$mnt/k" old --timestamp 5)" applied "a forgotten key begins anew"
is "$(cat "$mnt/k")" old "and holds the value"

# A node that is away may hold what was deleted: nothing is collected until it is back.
echo down >"$mnt/.quorumfs/nodes/2/state"
for ((i = 200; i < 250; i++)); do rm "$mnt/d/$i"; done
within 60 is_settled
output=$("$QUORUMFS" gc "$mnt" 2>&1)
is $? 1 "gc fails while a node is away"
has "$output" "waits for node 2" "and says what it waits for"
is "$(find "$mnt/d" -type f | wc -l)" 50 "the deletes hold"
passes "tombstones are kept" test "$(tombstones)" -gt 0
echo up >"$mnt/.quorumfs/nodes/2/state"
within 60 none_left && ok "they go when it is back" || not_ok "they go when it is back" "$(tombstones) left"
is "$(find "$mnt/d" -type f | wc -l)" 50 "nothing came back"
tidy() { [ "$(rows "dir = 'd' and kind = 1")" -eq 150 ]; } # three of each of 50
within 60 tidy && ok "stand-ins keep nothing for a node that is back" ||
  not_ok "stand-ins keep nothing for a node that is back" "$(rows "dir = 'd' and kind = 1") rows"

# A node restored from a copy made before the deletes brings nothing back.
echo down >"$mnt/.quorumfs/nodes/3/state"
cp -a "$store/node-3" "$work/copy"
echo up >"$mnt/.quorumfs/nodes/3/state"
node_is_up() { [ "$(cat "$mnt/.quorumfs/nodes/3/state")" = up ]; }
within 60 node_is_up
rm "$mnt"/d/*
"$QUORUMFS" gc "$mnt" >/dev/null
is "$(tombstones)" 0 "deleted and collected"
unmount_store
rm -rf "$store/node-3"
cp -a "$work/copy" "$store/node-3"
mount_store || exit 1
within 60 node_is_up && ok "the old copy was taken back in" || not_ok "the old copy was taken back in"
is "$(ls "$mnt/d" | wc -l)" 0 "none of the deleted keys came back"
is "$(rows "dir = 'd' and kind = 1")" 0 "in no replica"
has "$(cat "$work/log")" "older copy" "the log tells why node 3 was rebuilt"

fails_with 1 "Invalid argument" "gc takes nothing but 'now'" bash -c "echo later >'$mnt/.quorumfs/gc'"
unmount_store

# By schedule, with a short grace period.
mount_store tombstone_grace=1 || exit 1
echo x >"$mnt/short"
rm "$mnt/short"
within 200 none_left && ok "a tombstone goes by itself after its grace period" || not_ok "a tombstone goes by itself"
finish
