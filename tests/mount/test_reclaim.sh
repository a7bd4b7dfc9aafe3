#!/usr/bin/env bash
# Goal: chunks of writes that were not finished, and of values that were replaced or deleted shortly before a
# crash or while a node was away, give their space back.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1

chunks() { # in all replicas together
  local n=0 i
  for i in 1 2 3 4 5; do n=$((n + $(sql "$i" "select count(*) from chunk"))); done
  echo "$n"
}
chunks_are() { [ "$(chunks)" -eq "$1" ]; }
value() { head -c "$2" /dev/zero | tr '\0' "$1"; }
all_up() { for i in 1 2 3 4 5; do is_up "$i" || return 1; done; }

# Eight values of 16 chunks, at three owners each.
for i in 1 2 3 4 5 6 7 8; do value a 1048576 >"$mnt/$i"; done
live=$((8 * 16 * 3))
within 60 chunks_are "$live" && ok "values take the rows that they need" || not_ok "rows" "$(chunks), not $live"

# Overwritten, changed in place, deleted and being written when the daemon is killed. The end of one value never comes.
mkfifo "$work/endless"
"$QUORUMFS" put "$mnt/staged" - <"$work/endless" >/dev/null 2>&1 &
putter=$!
exec 8>"$work/endless"
value e 4194304 >&8
staged() { [ "$(chunks)" -ge $((live + 150)) ]; } # most of its 64, at three nodes each
within 60 staged
for i in 1 2 3 4; do value b 1048576 >"$mnt/$i"; done
for i in 5 6; do value c 65536 | dd of="$mnt/$i" bs=65536 seek=3 conv=notrunc status=none; done
rm "$mnt/7"
value d 8388608 >"$mnt/8" 2>/dev/null &
writer=$!
kill_daemon
exec 8>&-
wait "$writer" "$putter" 2>/dev/null
grown() { [ "$(chunks)" -gt "$live" ]; }
grown && ok "rows are left that no value has" || not_ok "rows are left that no value has" "$(chunks)"

mount_store || exit 1
within 60 all_up
rm -f "$mnt/8" "$mnt/staged"
live=$((6 * 16 * 3))
passes "gc runs" "$QUORUMFS" gc "$mnt"
within 60 chunks_are "$live" && ok "gc leaves the rows that the values need" || not_ok "gc leaves the rows that the values need" "$(chunks), not $live"
is "$(cat "$mnt/1" "$mnt/4" | tr -d b | wc -c)" 0 "what was overwritten is whole"
is "$(dd if="$mnt/5" bs=65536 skip=3 count=1 status=none | tr -d c | wc -c)" 0 "what was changed in place is whole"
is "$(head -c 196608 "$mnt/5" | tr -d a | wc -c)" 0 "and so is what stayed"
is "$(stat -c %s "$mnt/6")" 1048576 "and its size"
passes "metrics count what was reclaimed" \
  grep -Eq '^quorumfs_chunks_reclaimed_total [1-9]' "$mnt/.quorumfs/metrics"
passes "and status.json" test "$(status_number gc_chunks)" -gt 0

# Replaced and deleted while a node was away: it goes by itself when the node is back.
set_state 2 down
for i in 1 2 3; do value f 1048576 >"$mnt/$i"; done
rm "$mnt/4"
live=$((5 * 16 * 3))
set_state 2 up
within 60 is_up 2
within 60 chunks_are "$live" && ok "rows of a node that was away go by themselves" || not_ok "rows of a node that was away" "$(chunks), not $live"
is "$(cat "$mnt/1" "$mnt/2" "$mnt/3" | tr -d f | wc -c)" 0 "the values are whole"

# Many lives: a value that is changed in each keeps its bytes, and its record stays small.
for life in 1 2 3; do
  echo "$life" | dd of="$mnt/5" bs=65536 seek="$life" conv=notrunc status=none
  kill_daemon
  mount_store || exit 1
  within 60 all_up
done
is "$(for life in 1 2 3; do dd if="$mnt/5" bs=65536 skip="$life" count=1 status=none | head -n 1; done | tr '\n' ' ')" \
  "1 2 3 " "changes of several lives are there"
passes "gc runs once more" "$QUORUMFS" gc "$mnt"
within 60 chunks_are "$live" && ok "and nothing else is" || not_ok "and nothing else is" "$(chunks), not $live"
finish
