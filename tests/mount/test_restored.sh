#!/usr/bin/env bash
# Goal: a node restored from a copy made before 1,000 deletes whose tombstones are collected brings none of the keys back,
# whether it is restored between two mounts or while the store runs, and although nobody remembers the deletes.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
keys=1000
mount_store || exit 1

in_all() { # WHERE: rows in all replicas together
  local rows=0 i
  for i in 1 2 3 4 5; do rows=$((rows + $(sql "$i" "select count(*) from record where $1"))); done
  echo "$rows"
}
copy_of() { # NODE: a copy of its directory, as a backup would have it
  set_state "$1" down
  rm -rf "$work/copy"
  cp -a "$store/node-$1" "$work/copy"
  set_state "$1" up
  within 60 is_up "$1"
}
restore() { # NODE
  rm -rf "${store:?}/node-$1"
  cp -a "$work/copy" "$store/node-$1"
}
fill() { # DIRECTORY
  python3 - "$mnt/$1" "$keys" <<'END'
import os, sys
os.mkdir(sys.argv[1])
for i in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/{i}", "w") as file:
        file.write(f"value {i}\n" * (4000 if i % 100 == 0 else 1))
END
}
count_readable() { # DIRECTORY: which of the names can be opened, listed or not
  python3 - "$mnt/$1" "$keys" <<'END'
import os, sys
print(sum(os.path.exists(f"{sys.argv[1]}/{i}") for i in range(int(sys.argv[2]))))
END
}
delete_and_collect() { # DIRECTORY
  find "$mnt/$1" -type f -delete
  is "$(find "$mnt/$1" -type f | wc -l)" 0 "$1: $keys keys are deleted"
  "$QUORUMFS" gc "$mnt" >/dev/null
  is "$(in_all "kind = 0")" 0 "$1: no tombstone is left in any replica"
}
stays_deleted() { # DIRECTORY NODE
  if within 60 is_up "$2"; then ok "$1: the restored node is taken back"; else not_ok "$1: the restored node is taken back" "$(state "$2")"; fi
  is "$(find "$mnt/$1" -type f | wc -l)" 0 "$1: none of the keys is listed"
  is "$(count_readable "$1")" 0 "$1: none is found by name"
  within 60 is_settled
  is "$(in_all "dir = '$1' and kind = 1")" 0 "$1: none is in any replica"
  is "$(find "$mnt/kept" -type f | wc -l)" "$keys" "$1: what was not deleted is there"
  agreement 3 "$1: all owners hold the same rows"
}

fill kept
fill between
within 60 is_settled
copy_of 3
passes "the copy holds many of the keys" test "$(sqlite3 "$work/copy/replica.db" "select count(*) from record where dir = 'between'")" -gt $((keys / 3))
delete_and_collect between
unmount_store
restore 3
mount_store || exit 1
stays_deleted between 3
has "$(cat "$work/log")" "older copy" "the log tells why node 3 was rebuilt"

fill running
within 60 is_settled
copy_of 4
delete_and_collect running
set_state 4 down
restore 4
set_state 4 up
stays_deleted running 4
is "$(grep -c "node 4: its replica can't be used, it is an older copy" "$work/log")" 1 "the log tells why node 4 was rebuilt"
unmount_store
mount_store || exit 1
is "$(find "$mnt" -type f | wc -l)" "$keys" "nothing else is there at the next mount"
finish
