#!/usr/bin/env bash
# Goal: files have several names as on other filesystems, whatever is done through which of them, also for tools that
# keep links, for the store's own commands, and across kill -9; and a file that another one was renamed over goes on for
# who has it open.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1
scenario=$top/tests/mount/links_scenario.py

# The same operations on the filesystem of the temporary directory.
mkdir "$work/beside" "$mnt/beside"
(cd "$work/beside" && timeout 200 python3 "$scenario") >"$work/expected" 2>&1
(cd "$mnt/beside" && timeout 200 python3 "$scenario") >"$work/got" 2>&1
passes "the scenario was run to its end" grep -q "one page cache" "$work/expected"
is "$(diff "$work/expected" "$work/got")" "" "all answers are those of $(stat -f -c %T "$work")"

names_of() { find "$1" -samefile "$2" -printf '%P\n' | sort | xargs; }
records() { # SQL-condition: rows of all replicas
  local i
  for i in 1 2 3 4 5; do sql "$i" "select dir || '/' || name from record where kind <> 0 and $1"; done | sort -u
}

# Numbers are the same from a listing, from attributes, and after a remount.
mkdir "$mnt/n" "$mnt/n/s"
echo v >"$mnt/n/a"
ln "$mnt/n/a" "$mnt/n/b" && ln "$mnt/n/b" "$mnt/n/s/c"
is "$(names_of "$mnt/n" "$mnt/n/a")" "a b s/c" "find tells the names of a file"
unmount_store
mount_store noatime || exit 1 # a time of last reading is a new version, at any moment
is "$(find "$mnt/n" -type f -printf '%n %i\n' | sort -u | wc -l)" 1 "names and number are kept"
is "$(ls -i "$mnt/n" | awk '$2 == "a" || $2 == "b" { print $1 }' | sort -u)" "$(stat -c %i "$mnt/n/s/c")" "a listing tells the same number"
is "$(names_of "$mnt/n" "$mnt/n/s/c")" "a b s/c" "find after a remount"

# ln -f, and tools that keep links.
echo other >"$mnt/n/o"
ln -f "$mnt/n/o" "$mnt/n/b"
is "$(cat "$mnt/n/b") $(stat -c %h "$mnt/n/a" "$mnt/n/b" | xargs)" "other 2 2" "ln -f replaces one name"
mkdir "$mnt/t" && for i in 1 2 3; do head -c 100000 /dev/urandom >"$mnt/t/f$i" && ln "$mnt/t/f$i" "$mnt/t/g$i"; done
ln -s f1 "$mnt/t/l1" && ln -P "$mnt/t/l1" "$mnt/t/l2"
shape() { (cd "$1" && find . -type f -printf '%n %p\n' -o -type l -printf '%n %p %l\n' | sort && cat f? | cksum && for i in 1 2 3; do [ "f$i" -ef "g$i" ] && echo same; done); }
before=$(shape "$mnt/t")
passes "cp -a" cp -a "$mnt/t" "$mnt/t.cp"
is "$(shape "$mnt/t.cp")" "$before" "keeps links"
passes "rsync -aH" rsync -aH "$mnt/t/" "$mnt/t.rsync"
is "$(shape "$mnt/t.rsync")" "$before" "keeps links"
passes "tar" bash -c "tar -C '$mnt/t' -cf '$work/t.tar' . && mkdir '$mnt/t.tar' && tar -C '$mnt/t.tar' -xf '$work/t.tar'"
is "$(shape "$mnt/t.tar")" "$before" "keeps links"
passes "rsync --link-dest" rsync -a --link-dest="$mnt/t.cp" "$mnt/t.cp/" "$mnt/t.more"
is "$(stat -c %h "$mnt/t.more/f1")" 4 "makes links"
passes "rm -rf of some of them" rm -rf "$mnt/t.cp" "$mnt/t.tar"
is "$(shape "$mnt/t.rsync")" "$before" "leaves the others"
is "$(du -s --apparent-size -B1 "$mnt/t/f1" "$mnt/t/g1" | awk '{ n += $1 } END { print n }')" 100000 "du counts once"
git init -q "$mnt/g" && (cd "$mnt/g" && echo 1 >f && git add f && git -c user.name=n -c user.email=e commit -qm m)
passes "git clone --local" git clone -q --local "$mnt/g" "$mnt/g2"
is "$(git -C "$mnt/g2" fsck 2>&1; find "$mnt/g2/.git/objects" -type f -links +1 | wc -l | sed 's/^0$/none/')" "$(find "$mnt/g/.git/objects" -type f | wc -l)" "links all objects"

# The store's own commands and views.
q() { "$QUORUMFS" "$@"; }
exec 7<"$mnt/n/s/c"
is "$(q put "$mnt/n/a" new) $(cat "$mnt/n/s/c") $(cat <&7)" "applied new new" "put by one name is read by another"
is "$(q get "$mnt/n/s/c")" new "get"
exec 7<&-
ts=$(getfattr --only-values -n user.quorumfs.timestamp "$mnt/n/s/c")
has "$(q put "$mnt/n/a" old --timestamp $((ts - 1)))" "superseded by $ts" "an older put by any name is superseded"
has "$(q delete "$mnt/n/a" --timestamp $((ts - 1)))" "superseded by $ts" "and an older delete"
is "$(q put "$mnt/n/a" cas --if-timestamp "$ts") $(cat "$mnt/n/s/c")" "applied cas" "compare-and-swap"
is "$(q delete "$mnt/n/a") $(cat "$mnt/n/s/c") $(stat -c %h "$mnt/n/s/c")" "applied cas 1" "delete takes one name"
ln "$mnt/n/s/c" "$mnt/n/again"
tail -n 1 "$mnt/.quorumfs/events" >"$work/events"
echo changed >"$mnt/n/again"
tail -n 2 "$mnt/.quorumfs/events" >>"$work/events"
is "$(sed 's/^[0-9]* //' "$work/events" | xargs -d '\n' | tr '\t' '>')" "link n/s/c>n/again put n/again put n/s/c" "changes are told by each name"
wait_for_tables
node=$(for i in 1 2 3 4 5; do [ -L "$mnt/.quorumfs/nodes/$i/keys/n/again" ] && echo "$i"; done | head -n 1)
is "$(readlink "$mnt/.quorumfs/nodes/$node/keys/n/again")" "$(readlink "$mnt/.quorumfs/nodes/$node/keys/n/again" | grep -x '/link/[0-9a-f]\{16\}')" "a replica shows a name as what it is there"
passes "gc" q gc "$mnt"
is "$(cat "$mnt/n/again")" changed "leaves it"

# An open file that lost its last name is there until it is closed, and gone after a crash.
echo text >"$mnt/n/x" && ln "$mnt/n/x" "$mnt/n/y"
exec 8<>"$mnt/n/x"
rm "$mnt/n/x" "$mnt/n/y"
echo more >&8
is "$(cat "/proc/$$/fd/8")" more "an open file without names goes on"
passes "in a record of its own" test -n "$(records "dir = '/orphan'")"
kill_daemon
exec 8>&-
mount_store || exit 1
no_records() { [ -z "$(records "$1")" ]; }
within 60 no_records "dir = '/orphan'"
is "$(records "dir = '/orphan'")" "" "which is gone at the next start"

# kill -9 in the middle: each name counts, and no file is without one.
mkdir "$mnt/k"
links_agree() {
  python3 - "$mnt/k" <<'END'
import collections, os, sys
names = collections.Counter(os.stat(e.path).st_ino for e in os.scandir(sys.argv[1]))
wrong = [e.name for e in os.scandir(sys.argv[1]) if e.stat().st_nlink != names[e.stat().st_ino]]
values = collections.defaultdict(set)
for e in os.scandir(sys.argv[1]):
    values[e.stat().st_ino].add(open(e.path).read())
print(*wrong, *[v for v in values.values() if len(v) > 1])
END
}
wrong=
for round in 1 2 3 4 5 6 7 8; do
  (
    cd "$mnt/k" || exit 1
    for ((i = 0; i < 400; i++)); do
      a=$((RANDOM % 4)) b=$((RANDOM % 4))
      case $((RANDOM % 5)) in
      0) echo "$round $i" >"f$a" ;;
      1) ln "f$a" "f$b" ;;
      2) rm "f$a" ;;
      3) mv -T "f$a" "f$b" ;;
      4) ln -f "f$a" "f$b" ;;
      esac
    done
  ) >/dev/null 2>&1 &
  worker=$!
  sleep "0.$((RANDOM % 5 + 1))"
  kill_daemon
  wait "$worker" 2>/dev/null
  mount_store || exit 1
  wrong+=$(links_agree 2>&1)
done
is "$wrong" "" "killed in the middle of linking, names and counts agree"
rm -rf "$mnt/k"
passes "everything is removed" rm -rf "$mnt/n" "$mnt/t" "$mnt/t.rsync" "$mnt/t.more" "$mnt/g" "$mnt/g2" "$mnt/beside"
within 60 no_records "dir = '/link'"
is "$(records "dir = '/link'")" "" "then no file is left without names"
finish
