#!/usr/bin/env bash
# Goal: whatever happens to one node's replica, no reader gets an error or a wrong byte, the node comes back by itself,
# and all owners hold the same again.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
options=scrub_period=2
mount_store "$options" || exit 1
control=$mnt/.quorumfs
keys=400
db=$store/node-2/replica.db

# A value tells its own key and round, over and over, so that any byte of another one shows.
value() { # KEY ROUND: short ones and, of every 20th key, one of 300 KiB
  local line="$1 of round $2 "
  if [ $(($1 % 20)) -eq 0 ]; then
    head -c 307200 < <(yes "$line")
  else
    echo "$line"
  fi
}
export -f value
for ((i = 0; i < keys; i++)); do value $i 0 >"$mnt/k$i"; done
within 60 is_settled || exit 1
remember_owners
cp "$db" "$work/old.db" # while the log is still short: an older copy, to be put in place later

# Readers and a writer in the background; a reader that gets an error or a byte that was never written says so. Who pauses in
# the middle of a value may go on in a newer one (README.md, Files): then any round of the key will do.
is_of_rounds() { # KEY FILE: but for the lines where one version goes over into another
  [ "$(stat -c %s "$2")" -eq 307200 ] && [ "$(grep -avE "^$1 of round [0-9]+ \$" "$2" | wc -c)" -le 200 ]
}
reader() { # SEED
  local i round began
  RANDOM=$1
  while [ ! -e "$work/stop" ]; do
    i=$((RANDOM % keys))
    began=${EPOCHREALTIME/[.,]/}
    cat "$mnt/k$i" >"$work/got-$1" || { echo "k$i: cat failed"; continue; }
    round=$(head -c 100 "$work/got-$1" | sed -n '1s/.* of round \([0-9]*\) .*/\1/p')
    cmp -s "$work/got-$1" <(value $i "${round:-0}") ||
      { [ $((${EPOCHREALTIME/[.,]/} - began)) -ge 100000 ] && is_of_rounds "$i" "$work/got-$1"; } ||
      echo "k$i: wrong bytes: $(head -c 80 "$work/got-$1" | tr -d '\n')"
    ls "$mnt" >"$work/list-$1" || echo "ls failed"
    [ "$(wc -l <"$work/list-$1")" -eq "$keys" ] || echo "ls shows $(wc -l <"$work/list-$1") keys"
  done
}
writer() {
  local i round=1
  while [ ! -e "$work/stop" ]; do
    for ((i = 0; i < keys; i += 7)); do
      value $i $round >"$work/value"
      "$QUORUMFS" put "$mnt/k$i" - <"$work/value" >"$work/put" || echo "put k$i failed: $(cat "$work/put")"
      [ ! -e "$work/stop" ] || break
    done
    round=$((round + 1))
  done
}
load() {
  rm -f "$work/stop"
  reader 1 >"$work/wrong-1" 2>&1 &
  readers=($!)
  reader 2 >"$work/wrong-2" 2>&1 &
  readers+=($!)
  writer >"$work/wrong-3" 2>&1 &
  readers+=($!)
}
unload() { # NAME
  touch "$work/stop"
  wait "${readers[@]}"
  is "$(cat "$work"/wrong-*)" "" "$1: no reader got an error or a wrong byte"
}
drop_caches() { echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || true; }
# Rows mended plus replicas rebuilt: what `status` counts.
repaired() { echo $(($(status_number mended_records) + $(status_number mended_chunks) + $(status_number replicas_rebuilt))); }
more_than() { [ "$(repaired)" -gt "$1" ]; }
all_up() {
  local n
  for n in 1 2 3 4 5; do is_up $n || return 1; done
  is_settled
}
scrubs() { status_number scrub_runs; }
scrubbed_since() { [ "$(scrubs)" -gt "$1" ]; }
comes_back() { # NAME BEFORE
  within 60 more_than "$2" && ok "$1: it was noticed and repaired, and counted" ||
    not_ok "$1: it was noticed and repaired, and counted" "$(cat "$control/status")"
  unload "$1"
  within 60 all_up && ok "$1: the node is up again" || not_ok "$1: the node is up again" "$(cat "$control/status")"
  agreement 3 "$1: all owners hold the same"
}

garbage() { # over the middle third of the file
  local blocks=$(($(stat -c %s "$db") / 4096))
  dd if=/dev/urandom of="$db" bs=4096 seek=$((blocks / 3)) count=$((blocks / 3)) conv=notrunc status=none
}
mended() { echo $(($(status_number mended_records) + $(status_number mended_chunks))); }
while_running() { # NAME COMMAND...
  local name=$1 before rows
  shift
  before=$(repaired) rows=$(mended)
  load
  drop_caches
  "$@"
  drop_caches
  comes_back "$name" "$before"
  passes "$name: the rows that were mended are counted ($(($(mended) - rows)))" test "$(mended)" -gt "$rows"
}
while_running "random bytes over the middle of the file" garbage
while_running "file truncated" truncate -s 20000 "$db"
while_running "file deleted" rm "$db"
while_running "file replaced by an older copy" bash -c "cp '$work/old.db' '$store/node-2/x' && mv '$store/node-2/x' '$db'"
while_running "file overwritten by an older copy" cp "$work/old.db" "$db"
passes "what could not be used is kept aside" test -e "$store/node-2/replica.damaged"
has "$(cat "$control/status")" "set aside as replica.damaged" "status tells why"

# Single bits: where they are can't be known from outside, so by SQL, as someone with the shell would.
flip() { # TABLE WHERE
  sqlite3 -cmd '.timeout 60000' -cmd 'pragma wal_autocheckpoint = 0' "$db" "update $1 set data = cast(substr(data, 1, length(data) / 2) as blob) ||
    x'a5' || substr(data, length(data) / 2 + 2) where $2"
}
before=$(status_number mended_records)
load
flip record "kind = 1 and length(data) > 0 and rowid % 3 = 0"
mended_more() { [ "$(status_number mended_records)" -gt "$before" ]; }
within 60 mended_more && ok "bits of records: mended row by row" || not_ok "bits of records: mended row by row" "$(cat "$control/status")"
runs=$(scrubs)
within 60 scrubbed_since $((runs + 1))
unload "bits of records"
agreement 3 "bits of records: all owners hold the same"

before=$(status_number mended_chunks) runs=$(scrubs)
load
flip chunk "rowid % 2 = 0"
drop_caches
more_chunks() { [ "$(status_number mended_chunks)" -gt "$before" ]; }
within 60 more_chunks && ok "bits of chunks: mended row by row" || not_ok "bits of chunks: mended row by row" "$(cat "$control/status")"
within 60 scrubbed_since $((runs + 1))
unload "bits of chunks"
agreement 3 "bits of chunks: all owners hold the same"

# The same with the daemon stopped: found at the next mount, or by the scrub after it.
while_stopped() { # NAME COMMAND...
  local name=$1
  shift
  within 60 all_up
  unmount_store
  "$@"
  mount_store "$options" || exit 1
  load
  comes_back "$name" 0
}
while_stopped "stopped: random bytes" garbage
while_stopped "stopped: truncated" truncate -s 20000 "$db"
while_stopped "stopped: deleted" rm "$db"
while_stopped "stopped: older copy" bash -c "rm -f '$db'-*; cp '$work/old.db' '$db'"

# By command.
within 60 all_up
before=$(status_number mended_records)
sqlite3 -cmd '.timeout 60000' -cmd 'pragma wal_autocheckpoint = 0' "$db" "delete from record where kind = 1 and rowid % 2 = 0"
output=$("$QUORUMFS" repair "$mnt" 2>&1)
is $? 0 "repair exits 0: $output"
passes "it brought back what was lost" test "$(status_number mended_records)" -gt "$before"
# Chunk rows: names alone tell that they are gone. A value that was written in several pieces, and was moved.
for ((i = 0; i < 20; i++)); do value $((20 * i)) 1; done >"$mnt/pieces"
mv "$mnt/pieces" "$mnt/moved"
within 60 all_up
chunks() { sqlite3 -readonly -cmd '.timeout 60000' "$db" "select object_placement, object_unique, idx, version, checksum, hex(data)
  from chunk order by 1, 2, 3, 4" | md5sum; }
"$QUORUMFS" gc "$mnt" >/dev/null # nothing but what values have is left
before=$(chunks) mended=$(status_number mended_chunks)
gone=$(sqlite3 -cmd '.timeout 60000' -cmd 'pragma wal_autocheckpoint = 0' "$db" "delete from chunk where rowid % 3 < 2; select changes()" | tail -n 1)
output=$("$QUORUMFS" repair "$mnt" 2>&1)
is $? 0 "repair without $gone chunk rows of one node exits 0: $output"
as_before() { [ "$(chunks)" = "$before" ]; }
within 60 as_before
is "$(chunks)" "$before" "it brought back every one"
passes "and counted them" test $(($(status_number mended_chunks) - mended)) -ge "$gone" -a "$gone" -gt 10
has "$("$QUORUMFS" scrub "$mnt" --json)" '"lost_rows": 0' "scrub tells what it found, as JSON"
has "$(cat "$control/scrub")" "last run" ".quorumfs/scrub tells of the last run"
fails_with 1 "Invalid argument" "scrub takes nothing but 'now'" bash -c "echo later >'$control/scrub'"
agreement 3 "all owners hold the same"
finish
