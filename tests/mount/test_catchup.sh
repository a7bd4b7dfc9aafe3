#!/usr/bin/env bash
# Goal: a node that returns catches up at a cost that goes by what it missed, not by what the store holds. Messages and
# copied records are counted; times are shown only.
#   CATCHUP_STORES="1000 1000000" CATCHUP_KEYS=10000 tests/mount/test_catchup.sh
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-1800}
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
keys=${CATCHUP_KEYS:-10000}
load=${QUORUMFS%/*}/tests/bench/load
[ -x "$load" ] || { echo "Bail out! $load is not there"; exit 1; }

metric() { awk -v name="quorumfs_$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }' "$mnt/.quorumfs/metrics"; }
# What catching up takes: the comparison of all holders after it goes by what the store holds, and settling by time.
messages() {
  awk '/^quorumfs_messages_sent_total{type="(hello|promise|view|intents|scan-records|scan-chunks|apply|chunks)"}/ { sum += $2 }
    END { print sum + 0 }' "$mnt/.quorumfs/metrics"
}
# N keys new.../i by a few writers.
write_keys() { # FIRST COUNT
  python3 - "$mnt/missed" "$1" "$2" <<'END'
import os, sys
from concurrent.futures import ThreadPoolExecutor
top, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def write(i):
    descriptor = os.open(f"{top}/{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, b"missed %d\n" % i)
    os.close(descriptor)
with ThreadPoolExecutor(4) as pool:
    for _ in pool.map(write, range(first, first + count), chunksize=100):
        pass
END
}

catch_up() { # STORED NAME: sets messages, copied
  local started=$1 before_messages before_copied
  before_messages=$(messages) before_copied=$(metric catchup_copied_total)
  started=$(now_ms)
  set_state 3 up
  within 600 is_up 3 || { not_ok "$2: node 3 returns" "$(state 3)"; return 1; }
  messages=$(($(messages) - before_messages))
  copied=$(($(metric catchup_copied_total) - before_copied))
  diag "$2: caught up in $(($(now_ms) - started)) ms, $messages messages, $copied records and chunks copied"
}

three_copies() {
  local node
  copies=0
  for node in 1 2 3 4 5; do copies=$((copies + $(sql "$node" "select count(*) from record where dir = 'missed'"))); done
  [ "$copies" -eq $((3 * keys)) ]
}

declare -A messages_of
for stored in ${CATCHUP_STORES:-1000 100000}; do
  store=$work/store-$stored
  diag "$stored keys: loaded $("$load" "$store" 5 3 "$stored")"
  mount_store || exit 1
  mkdir "$mnt/missed"
  within 300 is_settled
  set_state 3 down
  is "$(state 3)" down "$stored keys: node 3 is down"
  if write_keys 0 "$keys"; then ok "$stored keys: $keys keys are written without it"; else not_ok "$stored keys: $keys keys are written without it"; fi
  within 300 is_settled
  catch_up "$stored" "$stored keys" || exit 1
  messages_of[$stored]=$messages
  # It should hold three of five keys, and is sent each by all three that hold it.
  passes "$stored keys: it got what it missed, and little else" test "$copied" -ge $((keys / 2)) -a "$copied" -le $((keys * 2))
  is "$(sql 3 "select count(*) from record where dir = 'missed' and hint = 0")" \
    "$(sql 3 "select count(*) from record where dir = 'missed'")" "$stored keys: as an owner"
  passes "$stored keys: messages in batches ($messages)" test "$messages" -lt "$keys"
  within 300 is_settled
  # What stand-ins kept goes a little later.
  within 300 three_copies
  is "$copies" $((3 * keys)) "$stored keys: three copies of each key that it missed"
  # Comparing all rows of a large store takes longer than anything else here.
  [ "$stored" -gt 10000 ] || agreement 3 "$stored keys: all owners hold the same rows"
  set_state 3 down
  within 300 is_settled
  catch_up "$stored" "$stored keys, nothing missed" || exit 1
  is "$copied" 0 "$stored keys: who missed nothing is sent nothing"
  unmount_store
done
smallest='' largest=''
for messages in "${messages_of[@]}"; do
  [ -n "$smallest" ] && [ "$smallest" -le "$messages" ] || smallest=$messages
  [ -n "$largest" ] && [ "$largest" -ge "$messages" ] || largest=$messages
done
passes "as many messages in a small store as in a large one ($smallest to $largest)" \
  test "$largest" -le $((smallest + smallest / 4 + 50))
finish
