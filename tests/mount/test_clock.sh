#!/usr/bin/env bash
# Goal: whatever the wall clock does, while running and between mounts, timestamps are unique and increase, nothing is
# lost, and explicit timestamps from the far future poison nothing. The clock is tests/lib/clockjump.c.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-400}
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
preload clockjump.so QFS_CLOCK="$work/clock"
clock() { printf '%-31s\n' "$1" | dd of="$work/clock" bs=32 conv=notrunc status=none; }
clock 0
mount_store || exit 1

n=0
write_some() { # COUNT NAME: keys of their own, and one that is overwritten; all one after another
  local i bad=0
  for ((i = 0; i < $1; i++)); do
    n=$((n + 1))
    printf -v name '%06d' "$n"
    { echo "$n" >"$mnt/k$name" && echo "$n" >"$mnt/over"; } || bad=$((bad + 1))
  done
  is "$bad" 0 "$2: writes go on"
}
# The timestamps of the keys in the order in which they were written.
timestamps() {
  local node
  for node in 1 2 3 4 5; do
    sql "$node" "select name, printf('%020u', timestamp) from record where dir = '' and name glob 'k[0-9]*'"
  done | sort -u
}
check() { # NAME
  within 60 is_settled
  timestamps >"$work/timestamps"
  is "$(wc -l <"$work/timestamps")" "$n" "$1: each key has one timestamp, the same on all replicas"
  passes "$1: they increase in the order of writing" \
    bash -c "cut -d '|' -f 2 '$work/timestamps' | sort -c -u"
  is "$(cat "$mnt/over")" "$n" "$1: the newest value is the one written last"
  is "$(cat "$mnt"/k?????? | tail -1)" "$n" "$1: nothing is lost"
}
jump() { # SECONDS NAME
  clock "$1"
  write_some 40 "$2"
  check "$2"
}

write_some 40 "a true clock"
check "a true clock"
jump -7200 "two hours back"
jump 36000 "ten hours ahead"
jump -36000 "twenty hours back"
jump 31536000 "a year ahead"
jump 0 "true again"
jump -2100000000 "before 1970"
jump 0 "true once more"

# While writers are at work.
stop=$work/stop
writer() {
  local m=0
  while [ ! -e "$stop" ]; do
    m=$((m + 1))
    { echo "$m" >"$mnt/writer$1" && echo "$m" >"$work/acked$1"; } || touch "$work/failed"
  done
}
for w in 1 2; do writer "$w" & writers[w]=$!; done
for seconds in 3600 -3600 86400 -86400 0 5 -5 1 -1 700000000 0; do
  clock "$seconds"
  sleep 0.3
done
touch "$stop"
wait "${writers[@]}"
passes "no write failed while the clock jumped" test ! -e "$work/failed"
is "$(cat "$mnt/writer1") $(cat "$mnt/writer2")" "$(cat "$work/acked1") $(cat "$work/acked2")" "and the last of each is there"

# Between mounts, after a kill and after an orderly end.
for seconds in -86400 86400 -7200; do
  kill_daemon
  clock "$seconds"
  mount_store || exit 1
  write_some 40 "clock $seconds after a kill"
  check "clock $seconds after a kill"
  unmount_store
  clock $((-seconds))
  mount_store || exit 1
  write_some 40 "clock $((-seconds)) after a remount"
  check "clock $((-seconds)) after a remount"
done

# Deletes: a clock that is ahead ends the grace period early, and still nothing returns.
clock 0
set_state 2 down
passes "keys are deleted while node 2 is down" bash -c "rm '$mnt'/k0001??"
clock 8640000
write_some 5 "100 days ahead"
within 60 is_settled
has "$("$QUORUMFS" gc "$mnt" 2>&1)" "waits for node 2" "with the clock 100 days ahead collecting still waits for node 2"
set_state 2 up
within 60 is_up 2
clock 0
"$QUORUMFS" gc "$mnt" >/dev/null
is "$(find "$mnt" -name 'k0001??' | wc -l)" 0 "none of the deleted keys is back"

# Explicit timestamps from the far future: only their key is touched by them.
"$QUORUMFS" put "$mnt/far" x --timestamp 18446744073709551000 >/dev/null
"$QUORUMFS" delete "$mnt/gone" --timestamp 18446744073709551000 >/dev/null
before=$(timestamps | tail -n 1)
write_some 1 "explicit timestamps"
after=$(timestamps | tail -n 1)
# As text: they have more digits than the shell has.
# shellcheck disable=SC2071
if [[ ${after#*|} > ${before#*|} && ${after#*|} < 18000000000000000000 ]]; then ok "they do not drag the clock along"
else not_ok "they do not drag the clock along" "from $before to $after"; fi
passes "a plain write goes above it" bash -c "echo y >'$mnt/far'"
is "$(cat "$mnt/far")" y "and is read"
passes "also above a delete from the future" bash -c "echo y >'$mnt/gone'"
is "$(cat "$mnt/gone")" y "and is read, too"
kill_daemon
mount_store || exit 1
is "$(cat "$mnt/far") $(cat "$mnt/gone")" "y y" "after a kill as well"

# Ties: the same on all replicas, whichever came first.
for order in "a b c" "c b a" "b c a"; do
  for value in $order; do "$QUORUMFS" put "$mnt/tie-${order// /}" "$value" --timestamp 77 >/dev/null; done
done
within 60 is_settled
is "$(cat "$mnt"/tie-* | sort -u | wc -l)" 1 "a tie has the same winner in any order"
for order in abc cba bca; do
  is "$(for i in 1 2 3 4 5; do sql "$i" "select hex(data) from record where name = 'tie-$order'"; done | sort | uniq -c | wc -l)" \
    1 "$order: and on every replica"
done
agreement 3 "all owners hold the same rows"
finish
