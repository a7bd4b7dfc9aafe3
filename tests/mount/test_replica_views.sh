#!/usr/bin/env bash
# Goal: .quorumfs/nodes/I/keys shows what that replica alone holds, read-only and never cached.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store nodes=5,replicas=3 || exit 1
view() { echo "$mnt/.quorumfs/nodes/$1/keys"; }

mkdir -p "$mnt/d/e/f"
echo blue >"$mnt/colour"
echo deep >"$mnt/d/e/f/k"
echo dash >"$mnt/d/e-"
ln -s ../colour "$mnt/d/link"
mkfifo "$mnt/fifo"
head -c 3000000 /dev/urandom >"$mnt/large"
truncate -s 200000 "$mnt/sparse"
printf 'x' | dd of="$mnt/sparse" bs=1 seek=199999 conv=notrunc status=none
for i in $(seq 1500); do echo "$i" >"$mnt/d/n$i"; done
touch -d '2001-02-03 04:05:06.789' "$mnt/colour"
chmod 640 "$mnt/colour"
echo gone >"$mnt/gone" && rm "$mnt/gone"
within 60 is_settled

# Every key at exactly the nodes whose replica has the row.
wrong=
for key in colour d/e/f/k d/e- d/link fifo large sparse d/n77; do
  dir=
  case $key in */*) dir=${key%/*} ;; esac
  for i in 1 2 3 4 5; do
    row=$(sql "$i" "select count(*) from record where dir = '$dir' and name = '${key##*/}'")
    seen=0
    stat "$(view "$i")/$key" >/dev/null 2>&1 && seen=1
    [ "$row" = "$seen" ] || wrong+=" $i:$key"
  done
done
is "$wrong" "" "a key is there where the replica has it"
all() { for i in 1 2 3 4 5; do (cd "$(view "$i")" && find . "$@"); done; }
is "$(all -type f -name 'n*' | sort | uniq -c | awk '{ print $1 }' | sort -u) $(all -type f -name 'n*' | sort -u | wc -l)" "3 1500" \
  "listings of all replicas have each key three times"
is "$(all -name gone | wc -l)" 0 "what was deleted is not there"
is "$(all -name f -type d | sort | uniq -c | awk '$1 >= 3' | wc -l)" 1 "directories above a key are there, also where they have no record"

holder=$(for i in 1 2 3 4 5; do [ ! -e "$(view "$i")/colour" ] || echo "$i"; done | head -1)
is "$(cat "$(view "$holder")/colour")" blue "a value is read"
is "$(stat -c '%s %a %u %y %F' "$(view "$holder")/colour")" "$(stat -c '%s %a %u %y %F' "$mnt/colour")" "with size, mode, owner, time"
for name in large sparse; do
  at=$(for i in 1 2 3 4 5; do [ ! -e "$(view "$i")/$name" ] || echo "$i"; done | tail -1)
  passes "$name: all its bytes" cmp "$mnt/$name" "$(view "$at")/$name"
done
at=$(for i in 1 2 3 4 5; do [ ! -L "$(view "$i")/d/link" ] || echo "$i"; done | head -1)
is "$(readlink "$(view "$at")/d/link")" ../colour "a symlink"
ln -sfn elsewhere "$mnt/d/link"
within 60 is_settled
is "$(readlink "$(view "$at")/d/link")" elsewhere "that was changed"

# Never cached, read-only.
exec 7<"$(view "$holder")/colour"
echo green >"$mnt/colour"
within 60 is_settled
is "$(cat "$(view "$holder")/colour")" green "what changed is seen at once"
is "$(cat <&7)" blue "an open file stays the version of its open"
exec 7<&-
rm "$mnt/colour"
within 60 is_settled
fails_with 1 "No such file" "what went is gone at once" cat "$(view "$holder")/colour"
mkdir "$mnt/colour"
within 60 is_settled
is "$(stat -c %F "$(view "$holder")/colour")" directory "also if it came back as something else"
at=$(for i in 1 2 3 4 5; do [ ! -e "$(view "$i")/large" ] || echo "$i"; done | head -1)
fails_with 1 "Read-only" "nothing is written there" bash -c "echo x >'$(view "$at")/large'"
fails_with 1 "Read-only" "nothing is removed" rm "$(view "$at")/large"
fails_with 1 "Read-only" "nothing is changed" chmod 600 "$(view "$at")/large"
fails_with 1 "Read-only" "nothing is made" mkdir "$(view 1)/d/new"
fails_with 1 "Read-only" "nothing is renamed" mv "$(view "$at")/large" "$(view "$at")/larger"
is "$(stat -c %a "$(view 1)")" 500 "only the mounter may enter: directories that hide their names may be elsewhere"

fails_with 1 "File name too long" "a long name" stat "$(view 1)/$(printf 'n%.0s' $(seq 256))"
fails_with 1 "No such file" "a node that there is not" stat "$mnt/.quorumfs/nodes/6/keys"

# A node that is down.
set_state "$at" down
fails_with 1 "Host is down" "reading at a node that is down" cat "$(view "$at")/large"
fails_with 2 "Host is down" "listing at a node that is down" ls "$(view "$at")"
passes "its directory itself is there" stat "$(view "$at")"
set_state "$at" up
within 60 is_up "$at"
passes "and it is back with the node" cmp "$mnt/large" "$(view "$at")/large"

# A renamed value: its record moves, its chunks stay.
mv "$mnt/large" "$mnt/renamed"
within 60 is_settled
results=$(for i in 1 2 3 4 5; do
  [ -e "$(view "$i")/renamed" ] || continue
  if cmp "$mnt/renamed" "$(view "$i")/renamed" 2>/dev/null; then echo whole; else cat "$(view "$i")/renamed" 2>&1 >/dev/null | grep -o 'No data available'; fi
done | sort | uniq -c | awk '{ n += $1 } END { print n }')
is "$results" 3 "a renamed value is whole, or its replica says that it has no data"
unmount_store

# With as many replicas as nodes all trees are the same.
store=$work/store3
mount_store nodes=3,replicas=3 || exit 1
cp -r "$top/fs" "$mnt/fs"
ln -s a "$mnt/symlink"
head -c 500000 /dev/urandom >"$mnt/big"
mv "$mnt/big" "$mnt/fs/moved"
rm "$mnt/fs/main.c"
within 60 is_settled
passes "diff -r of two nodes" diff -r --no-dereference "$(view 1)" "$(view 2)"
passes "and of a node and the mount" diff -r --no-dereference -x .quorumfs "$mnt" "$(view 3)"
set_state 2 down
echo later >"$mnt/fs/later"
is "$(diff -r --no-dereference "$(view 1)" "$(view 3)"; ls "$(view 1)/fs/later")" "$(view 1)/fs/later" "while one is away"
is "$(ls -A "$mnt" | tr '\n' ' ')" "fs symlink " "the views are never listed"
is "$(ls "$mnt/.quorumfs/nodes/1" | tr '\n' ' ')" "delay drop keys state " "but by name"

# A damaged row is not shown as if it were good.
set_state 2 up
within 60 is_up 2
echo precious >"$mnt/precious"
within 60 is_settled
is "$(sqlite3 -cmd '.timeout 60000' "$store/node-1/replica.db" \
  "update record set data = cast('previous!' as blob) where name = 'precious'; select changes()")" 1 "a row is damaged"
fails_with 1 "Input/output error" "a row that does not match its checksum" cat "$(view 1)/precious"
is "$(cat "$(view 3)/precious")" precious "others are not affected"
finish
