#!/usr/bin/env bash
# Goal: of five disks three fill up, one after another. What the two others acknowledge goes on; of long values that are
# written then, those of which no other owner is there can't be read until the third has room, and the error is clear.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=3000
disks=()
release() { local disk; for disk in "${disks[@]}"; do umount "$disk" 2>/dev/null; done; }
options=''
for i in 1 2 3; do
  mkdir "$work/disk$i"
  mount -t tmpfs -o size=64m none "$work/disk$i" 2>/dev/null || { release; skip "needs the right to mount a tmpfs"; finish; exit; }
  disks+=("$work/disk$i")
  mkdir "$work/disk$i/qfs"
  options+=${options:+,}node$i=$work/disk$i/qfs/node
done
mount_store "$options" || exit 1
head -c 200000 /dev/urandom >"$work/long"
head -c 10000 /dev/urandom >"$work/short"
is_failed() { case $(state "$1") in failed:*) ;; *) return 1 ;; esac; }
fill() { head -c 100000000 /dev/zero >"$work/disk$1/ballast" 2>/dev/null; }

# Names that nodes 1, 2 and 3 own, and others.
owners() { getfattr --only-values -n user.quorumfs.replicas "$mnt/$1" 2>/dev/null | sed 's/=[^ ]*//g'; }
theirs=() others=()
for ((i = 0; i < 200 && ${#theirs[@]} < 4; i++)); do
  echo old >"$mnt/key$i"
  if [ "$(owners "key$i")" = "1 2 3" ]; then theirs+=("key$i"); elif [ "${#others[@]}" -lt 8 ]; then others+=("key$i"); fi
done
passes "there are names that nodes 1, 2 and 3 own" test "${#theirs[@]}" -eq 4
passes "settled" within 60 is_settled

more() { cp "$work/long" "$mnt/more$EPOCHREALTIME"; }
more_and_failed() { more && is_failed "$1"; } # NODE
for node in 1 2; do
  fill $node
  passes "the disk of node $node is full: it fails" within 60 more_and_failed $node
  passes "all is settled without it" within 60 is_settled
done
fill 3
is "$(grep -cE '^[345] +up +yes' "$mnt/.quorumfs/status")" 3 "nodes 3, 4 and 5 are up, as more can't be done without"

put_all() { # FILE NAME...
  local file=$1 name
  shift
  for name; do cp "$file" "$mnt/$name" || return 1; done
}
read_all_as() { # FILE NAME...
  local file=$1 name
  shift
  for name; do cmp "$file" "$mnt/$name" || return 1; done
}
passes "short values are written" put_all "$work/short" "${theirs[@]}" "${others[@]}"
passes "and read" read_all_as "$work/short" "${theirs[@]}" "${others[@]}"
passes "long values are written" put_all "$work/long" "${theirs[@]}" "${others[@]}"
passes "those that nodes 4 or 5 own are read" read_all_as "$work/long" "${others[@]}"
# The log of node 3 may have room left for some.
written_and_unread() { cp "$work/long" "$mnt/$1" && ! cat "$mnt/$1"; } # NAME
for name in "${theirs[@]}"; do passes "$name is written, and in the end it does not fit" within 60 limited 20 written_and_unread "$name"; done
for name in "${theirs[@]}"; do fails_with 1 "Connection timed out" "one that only full nodes own is not" cat "$mnt/$name"; done
passes "others still are" read_all_as "$work/long" "${others[@]}"

rm "$work/disk3/ballast"
passes "when the third has room all are read" within 60 read_all_as "$work/long" "${theirs[@]}" "${others[@]}" 2>/dev/null
rm "$work/disk1/ballast" "$work/disk2/ballast"
for node in 1 2; do passes "node $node returns by itself" within 60 is_up $node; done
passes "all is settled" within 60 is_settled
passes "all are read as before" read_all_as "$work/long" "${theirs[@]}" "${others[@]}"
unmount_store
release
finish
