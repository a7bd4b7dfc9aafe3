#!/usr/bin/env bash
# Goal: a disk under one node that fills up, fails or is read-only is that node's failure alone: everything goes on, and
# the node returns by itself once its disk is well.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-600}
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=10000
keys=30
head -c 300000 /dev/urandom >"$work/value"

write_large() { # FIRST LAST
  local i
  for ((i = $1; i <= $2; i++)); do cp "$work/value" "$mnt/large$i" || return 1; done
}
large_is_whole() { # LAST
  local i
  for ((i = 1; i <= $1; i++)); do cmp "$work/value" "$mnt/large$i" || return 1; done
}
export keys
is_failed() { case $(state "$1") in failed:*) ;; *) return 1 ;; esac; }
others_up() { # NODE
  local i
  for i in 1 2 3 4 5; do [ "$i" = "$1" ] || is_up "$i" || return 1; done
}
returns() { # NODE NAME
  if within 60 is_up "$1"; then ok "$2: node $1 returns by itself"; else not_ok "$2: node $1 returns by itself" "$(state "$1")"; fi
  within 60 is_settled
  agreement 3 "$2: all owners hold the same rows"
}

# A small disk of its own under node 2.
disk=$work/disk
mkdir "$disk"
if mount -t tmpfs -o size=8m none "$disk" 2>/dev/null; then
  mkdir "$disk/qfs"
  mount_store "node2=$disk/qfs/node" || exit 1
  ln -s "$disk/qfs/node" "$store/node-2" # where the helpers of these tests look for replicas
  passes "a small disk: keys are written" write_all small
  passes "more is written than fits on it" write_large 1 60
  within 60 is_failed 2
  has "$(state 2)" "failed: " "its node fails: $(state 2)"
  has "$(state 2)" "full" "and tells why"
  passes "no other does" others_up 2
  passes "everything is whole" large_is_whole 60
  passes "writes go on" write_all without
  passes "reads too" read_all without
  passes "and deletes" rm "$mnt"/large{31..60}
  # It is tried again while large values are on their way to it.
  failed_times() { [ "$(grep -c 'node 2 failed' "$work/log")" -ge "$1" ]; }
  for ((attempt = 2; attempt <= 5; attempt++)); do
    write_large 31 45 || break
    within 60 failed_times "$attempt"
  done
  is "$attempt" 6 "it is tried again, and fails each time"
  settles() { if within 60 is_settled; then ok "$1"; else not_ok "$1" "$(cat "$mnt/.quorumfs/status")"; fi; }
  settles "the others settle without it"
  # The disk grows, which is what an administrator would see to; what was deleted would not make room by itself, as
  # the node was never told of it.
  mount -o remount,size=100m "$disk"
  returns 2 "with room again"
  passes "everything is whole afterwards" large_is_whole 30
  passes "and read" read_all without

  # A file of somebody else fills the disk, and goes.
  head -c 99000000 /dev/zero >"$disk/ballast" 2>/dev/null
  passes "writes go on beside a full disk" write_large 61 75
  passes "overwriting and deleting too" write_all ballast
  rm "$disk/ballast"
  returns 2 "after the ballast is gone"
  passes "everything is whole after that" read_all ballast

  # Read-only from the start.
  unmount_store
  mount -o remount,ro "$disk"
  mount_store || exit 1
  within 60 is_failed 2
  has "$(state 2)" "failed: " "a read-only disk: its node fails: $(state 2)"
  passes "no other fails" others_up 2
  passes "writes go on beside it" write_all readonly
  mount -o remount,rw "$disk"
  returns 2 "writable again"
  passes "it serves what it missed" read_all readonly

  # Not mounted at all: nothing is made in its place.
  unmount_store
  mount -t tmpfs -o size=1m none "$disk"
  mount_store || exit 1
  within 60 is_failed 2
  has "$(state 2)" "directory $disk/qfs is missing" "a disk that is not mounted: its node fails"
  passes "writes go on without it" write_all unmounted
  is "$(ls -A "$disk")" "" "nothing is made in its place"
  within 60 umount "$disk" # the node looks there now and then
  returns 2 "mounted"
  passes "it serves what it missed meanwhile" read_all unmounted
  rm "$store/node-2"
  unmount_store
  umount "$disk"
else
  skip "a small disk under one node" "needs the right to mount a tmpfs"
fi

# Calls that fail under a node while it runs.
preload diskfault.so QFS_FAULTS="$work/faults"
faults() { printf '%-511s\n' "$*" | dd of="$work/faults" bs=512 conv=notrunc status=none; }
faults -
store=$work/store2
mount_store || exit 1
passes "keys are written" write_all first
within 60 is_settled
remember_owners

disk_fails() { # NAME CALLS ERRNO NODE
  faults "$2" "$3" "$store/node-$4/"
  passes "$1: writes go on" write_all "$1"
  passes "$1: reads go on" read_all "$1"
  passes "$1: large values too" write_large 1 6
  passes "$1: fsync succeeds" dd if="$work/value" of="$mnt/synced" conv=fsync status=none
  passes "$1: a listing" test "$(find "$mnt" -name 'key*' | wc -l)" -eq "$keys"
  [ "$2" = r ] || within 60 is_failed "$4"
  diag "$1: $(state "$4")"
  passes "$1: no other node fails" others_up "$4"
  passes "$1: nothing is damaged" large_is_whole 6
  faults -
  returns "$4" "$1"
  passes "$1: everything is as it was written" read_all "$1"
}
disk_fails "writes fail" w 5 1
disk_fails "a full disk" w 28 2
disk_fails "a quota" w 122 3
disk_fails "syncs fail" s 5 4
disk_fails "reads fail" r 5 5
disk_fails "read-only" w 30 1
disk_fails "all fails" wsro 5 2

passes "all keys are there" bash -c "cat '$mnt'/key* >/dev/null"
finish
