#!/usr/bin/env bash
# Goal: a directory is renamed with everything below it in one step, also across kill -9 and beside writers in it; two
# names are exchanged; what rename(2) refuses is refused.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-480}
. "$(dirname "$0")/../lib/tap.sh"
# Under load a node may be slow; that is not what is tested here.
mount_store timeout=30000 || exit 1

rename2() { python3 - "$@" <<'END'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
flags = {"noreplace": 1, "exchange": 2, "none": 0}[sys.argv[1]]
if libc.renameat2(-100, sys.argv[2].encode(), -100, sys.argv[3].encode(), flags) != 0:
    sys.exit(errno.errorcode[ctypes.get_errno()])
END
}
tree_of() { (cd "$1" && find . -printf '%p %y %m %T@ %l\n' | sort && find . -type f -print0 | sort -z | xargs -0 cat) | cksum; }

# A tree of every kind.
mkdir -p "$mnt/a/sub/deep" "$mnt/a/empty"
for i in 1 2 3 4 5 6 7 8; do echo "value $i" >"$mnt/a/sub/f$i"; done
head -c 300000 /dev/urandom >"$mnt/a/sub/deep/big"
ln -s ../target "$mnt/a/link"
mkfifo "$mnt/a/pipe"
chmod 640 "$mnt/a/sub/f3"
touch -d '2001-02-03 04:05:06' "$mnt/a/sub/f4"
before=$(tree_of "$mnt/a")
passes "a tree is renamed" rename2 none "$mnt/a" "$mnt/b"
is "$(tree_of "$mnt/b")" "$before" "with all that is in it"
passes "and is gone from its old name" not test -e "$mnt/a"
is "$(cat "$mnt/a/sub/f1" 2>&1)" "cat: $mnt/a/sub/f1: No such file or directory" "nothing is left behind"
mkdir "$mnt/a"
is "$(ls -A "$mnt/a")" "" "a new directory of the old name is empty"
passes "an empty directory is replaced" rename2 none "$mnt/b" "$mnt/a"
is "$(tree_of "$mnt/a")" "$before" "by the whole tree"

mkdir -p "$mnt/full/x"
is "$(rename2 none "$mnt/a" "$mnt/full" 2>&1)" ENOTEMPTY "not over a directory that is not empty"
is "$(rename2 none "$mnt/a" "$mnt/a/sub/in" 2>&1)" EINVAL "not into itself"
is "$(rename2 none "$mnt/a/sub" "$mnt/a" 2>&1)" ENOTEMPTY "not over what it is in"
echo v >"$mnt/file"
is "$(rename2 none "$mnt/a" "$mnt/file" 2>&1)" ENOTDIR "not over a file"
is "$(rename2 none "$mnt/file" "$mnt/a" 2>&1)" EISDIR "a file not over a directory"
is "$(rename2 noreplace "$mnt/full" "$mnt/a" 2>&1)" EEXIST "nothing at all where that is asked for"
is "$(tree_of "$mnt/a")" "$before" "and nothing changed by all that"

# Exchange.
echo one >"$mnt/one" && echo two >"$mnt/two"
passes "files are exchanged" rename2 exchange "$mnt/one" "$mnt/two"
is "$(cat "$mnt/one" "$mnt/two" | xargs)" "two one" "each has the other's value"
passes "trees are exchanged" rename2 exchange "$mnt/a" "$mnt/full"
is "$(tree_of "$mnt/full")" "$before" "the tree under the other name"
is "$(ls "$mnt/a")" x "and the other way round"
passes "a file and a tree are exchanged" rename2 exchange "$mnt/one" "$mnt/full"
is "$(tree_of "$mnt/one") $(cat "$mnt/full")" "$before two" "too"
is "$(rename2 exchange "$mnt/one" "$mnt/nowhere" 2>&1)" ENOENT "but not with nothing"
is "$(rename2 exchange "$mnt/one" "$mnt/one/sub" 2>&1)" EINVAL "nor with what is inside"

mkdir "$mnt/left" "$mnt/right"
echo linked >"$mnt/other" && ln "$mnt/other" "$mnt/left/same" && echo plain >"$mnt/right/same"
cat "$mnt/left/same" "$mnt/right/same" >/dev/null
passes "trees with a link and a file of one name are exchanged" rename2 exchange "$mnt/left" "$mnt/right"
rm "$mnt/right/same"
is "$(stat -c %h "$mnt/other") $(cat "$mnt/other" "$mnt/left/same" | xargs)" "1 linked plain" "each is still what it was"

# Open files stay open, and what is written through them goes to the file under its new name.
exec 7>>"$mnt/one/sub/f1" 8<"$mnt/one/sub/f2"
mv "$mnt/one" "$mnt/moved"
echo more >&7
read -r line <&8
exec 7>&- 8<&-
is "$(xargs <"$mnt/moved/sub/f1")" "value 1 more" "an open file is appended to under its new name"
is "$line" "value 2" "and read"
cd "$mnt/moved/sub" && is "$(cat f3)" "value 3" "so does a shell that stands in it"
mv "$mnt/moved" "$mnt/again"
is "$(cat f3)" "value 3" "also when it is moved away under it"
cd "$work" || exit 1

# Writers beside.
mkdir "$mnt/busy0"
writer() {
  local i at
  for ((i = 0; i < 20000; i++)); do
    [ ! -e "$work/stop" ] || break
    for at in busy0 busy1; do
      if echo "$1 $i" >"$mnt/$at/w$1-$i"; then
        echo "w$1-$i $1 $i" >>"$work/written.$1"
        break
      fi
    done
  done 2>/dev/null
}
writer 1 & w1=$!
writer 2 & w2=$!
moves=0
# Both have written since the last move.
wrote_more() { for w in 1 2; do [ "$(grep -c . "$work/written.$w")" -gt $((moves * 10)) ] || return 1; done; }
while [ "$moves" -lt 8 ] && within 60 wrote_more && rename2 none "$mnt/busy$((moves % 2))" "$mnt/busy$(((moves + 1) % 2))"; do moves=$((moves + 1)); done
touch "$work/stop"
wait "$w1" "$w2"
at=$mnt/busy$((moves % 2))
missing=0
while read -r name a b; do [ "$(cat "$at/$name")" = "$a $b" ] || missing=$((missing + 1)); done < <(cat "$work"/written.*)
is "$moves" 8 "a directory is moved beside writers in it"
passes "which wrote" test "$(cat "$work"/written.* | wc -l)" -gt 20
is "$missing" 0 "and everything they wrote is in it ($moves moves, $(cat "$work"/written.* | wc -l) files)"
is "$(ls "$at" | wc -l)" "$(cat "$work"/written.* | wc -l)" "and nothing else"
passes "under one name" not test -e "$mnt/busy$(((moves + 1) % 2))"

# Writes through open files, while the directory moves as often as it can: none may come too late with the old name.
mkdir "$mnt/swing0" && for i in 1 2 3 4; do echo "$i" >"$mnt/swing0/f$i"; done
swing() {
  timeout 120 python3 - "$mnt/swing" <<'END'
import collections, errno, os, sys, threading
dirs = [sys.argv[1] + "0", sys.argv[1] + "1"]
over, errors = False, collections.Counter()
def write(fd):
    done = False
    while not done: # once at least
        done = over
        try:
            os.pwrite(fd, b"y" * 10, 0)
        except OSError as e:
            errors[errno.errorcode[e.errno]] += 1
threads = [threading.Thread(target=write, args=(os.open("%s/f%d" % (dirs[0], i), os.O_WRONLY),)) for i in range(1, 5)]
for thread in threads:
    thread.start()
for move in range(400):
    os.rename(dirs[move % 2], dirs[(move + 1) % 2])
over = True
for thread in threads:
    thread.join()
print(400, *errors.items())
END
}
is "$(swing 2>&1)" 400 "writes to open files in a directory that is renamed again and again never fail"
is "$(cat "$mnt"/swing0/f? | fold -w 10 | sort -u)" yyyyyyyyyy "and arrive"

# kill -9.
mkdir -p "$mnt/k0/s"
for ((i = 0; i < 150; i++)); do echo "$i" >"$mnt/k0/s/f$i"; done
lost=0 both=0
for round in 1 2 3 4 5 6 7 8; do
  from=$mnt/k0 to=$mnt/k1
  [ -d "$from" ] || { from=$mnt/k1 to=$mnt/k0; }
  rename2 none "$from" "$to" 2>/dev/null &
  mover=$!
  sleep "0.0$((RANDOM % 6))"
  kill_daemon
  wait "$mover" 2>/dev/null
  mount_store timeout=30000 || exit 1
  [ -d "$mnt/k0" ] && [ -d "$mnt/k1" ] && both=$((both + 1))
  at=$mnt/k0
  [ -d "$at" ] || at=$mnt/k1
  [ "$(cat "$at"/s/* 2>/dev/null | sort -n | cksum)" = "$(seq 0 149 | cksum)" ] || lost=$((lost + 1))
done
is "$lost $both" "0 0" "killed while it is renamed, a tree is whole under one of the names"

# Ten thousand keys.
mkdir "$mnt/many"
for ((i = 0; i < 100; i++)); do mkdir "$mnt/many/d$i" && (cd "$mnt/many/d$i" && for ((j = 0; j < 100; j++)); do echo "$j" >"f$j"; done); done
passes "a tree of 10,000 keys is renamed" rename2 none "$mnt/many" "$mnt/renamed"
is "$(find "$mnt/renamed" -name 'f*' | wc -l)" 10000 "all of it"
passes "in one step" not test -e "$mnt/many"

# More than can be done in one step, of names and of bytes.
mkdir "$mnt/heavy"
for ((i = 0; i < 600; i++)); do dd if=/dev/zero of="$mnt/heavy/f$i" bs=60000 count=1 status=none; done
is "$(rename2 none "$mnt/heavy" "$mnt/elsewhere" 2>&1)" EXDEV "a tree of more than 32 MiB of small values is refused with EXDEV"
is "$(find "$mnt/heavy" -size 60000c | wc -l) $(ls -d "$mnt/elsewhere" 2>&1 | grep -c 'No such file')" "600 1" "without any effect"
is "$(cat "$mnt/.quorumfs/last-error")" \
  "'heavy' is not renamed in one step: more than 100000 names or 32 MiB of small values are below it; mv copies instead" \
  "last-error tells why"
passes "mv copies it" mv "$mnt/heavy" "$mnt/elsewhere"
is "$(find "$mnt/elsewhere" -size 60000c | wc -l) $(ls -d "$mnt/heavy" 2>&1 | grep -c 'No such file')" "600 1" "file by file"
unmount_store
"${QUORUMFS%/*}/tests/bench/load" "$store" 5 3 20001 5 20001 >/dev/null || exit 1
mount_store timeout=2000 || exit 1
is "$(rename2 none "$mnt/load/000" "$mnt/load/111" 2>&1)" EXDEV "a tree of more than 10 names for each ms of the timeout is refused, too"
is "$(ls "$mnt/load")$(find "$mnt/load/000" -type f | wc -l)" 00020001 "without any effect"
unmount_store
mount_store timeout=60000 || exit 1
is "$(rename2 none "$mnt/load/000" "$mnt/load/111" 2>&1)" "" "and renamed with a longer one"
is "$(ls "$mnt/load")$(find "$mnt/load/111" -type f | wc -l)" 11120001 "all of it"
finish
