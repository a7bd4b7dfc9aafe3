#!/usr/bin/env bash
# Goal: on a full disk that all nodes share writes fail with ENOSPC, nothing is damaged, reads and deletes go on, and
# the space that deletes free can be used again.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=10000
disk=$work/disk
mkdir "$disk"
mount -t tmpfs -o size=60m none "$disk" 2>/dev/null || { skip "needs the right to mount a tmpfs"; finish; exit; }
store=$disk/store
mount_store || exit 1
head -c 500000 /dev/urandom >"$work/value"
for i in 1 2 3 4 5; do echo "kept $i" >"$mnt/kept$i"; done

written=0
while [ "$written" -lt 400 ] && cp "$work/value" "$mnt/big$((written + 1))" 2>"$work/error"; do written=$((written + 1)); done
has "$(cat "$work/error")" "No space left on device" "the write that does not fit fails with ENOSPC"
passes "some did fit" test "$written" -gt 5
passes "all nodes are up" test "$(grep -cE '^[1-5] +up +yes' "$mnt/.quorumfs/status")" -eq 5
whole() {
  local i
  for i in 1 2 3 4 5; do [ "$(cat "$mnt/kept$i")" = "kept $i" ] || return 1; done
  for ((i = 1; i <= written; i++)); do [ ! -e "$mnt/big$i" ] || cmp -s "$mnt/big$i" "$work/value" || return 1; done
}
rm -f "$mnt/big$((written + 1))"
passes "what was written is whole" whole
removed=1
for ((i = 1; i <= written; i += 2)); do rm "$mnt/big$i" || removed=0; done
is "$removed" 1 "deletes work on a full disk"
again() { cp "$work/value" "$mnt/again" 2>/dev/null; }
passes "and make room" within 60 again

# Whether the logs can still be moved into the files depends on what was under way when the disk became full.
rounds=0
fill_and_delete() {
  local i=0
  while cp "$work/value" "$mnt/more$i" 2>/dev/null; do i=$((i + 1)); done
  rm -f "$mnt"/more*
  within 60 again
}
while [ "$rounds" -lt 30 ] && fill_and_delete; do rounds=$((rounds + 1)); done
is "$rounds" 30 "time and again"
passes "nothing else changed" whole
# Whoever was refused gives the room of its log back; those who were not share the disk.
logs_are_cut() { [ "$(cat "$store"/node-*/replica.db-wal | wc -c)" -eq 0 ]; }
passes "no node keeps room in its log" within 60 logs_are_cut
unmount_store
mount_store || exit 1
passes "nor at the next mount" whole
is "$(cmp "$work/value" "$mnt/again" && echo same)" same "and the last value is there"
unmount_store
umount "$disk"
finish
