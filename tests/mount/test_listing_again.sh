#!/usr/bin/env bash
# Goal: what the kernel knows of files is not told it again by a listing: `ls -l` of a directory that was listed before asks
# for no file (it would ask for the access list of each), and still shows whatever changed in between, by whoever.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1
dir=$mnt/d
files=3000

asked() { awk '/^quorumfs_fuse_requests_total.*"(lookup|getattr|getxattr)"/ { n += $2 } END { print n }' "$mnt/.quorumfs/metrics"; }
shown() { (cd "$dir" && ls -ln --time-style=full-iso | sed 1d); }

mkdir "$dir"
(cd "$dir" && for ((i = 0; i < files; i++)); do echo "$i" >"f$i"; done)
setfacl -m u:12345:r "$dir/f1"
shown >"$work/first"
before=$(asked)
shown >"$work/second"
requests=$(($(asked) - before))
passes "listed again, $files files cost a handful of requests ($requests)" test "$requests" -lt 60
is "$(cat "$work/second")" "$(cat "$work/first")" "and the list is the same"
has "$(grep ' f1$' "$work/second")" "+ " "with the mark of an access list"

# Whatever changes is told; then it is compared with what the kernel learns when it knew nothing.
cd "$dir" || exit 1
printf 'more' >>f2
"$QUORUMFS" put "$dir/f3" "by command" >/dev/null
chmod 600 f4
chown 12345:12346 f5
touch -d "2001-02-03 04:05:06.789" f6
setfacl -m u:12345:rw f7
setfacl -b f1
rm f8
"$QUORUMFS" delete "$dir/f9" >/dev/null
ln f10 linked
mv f11 moved
mv f12 f13
"$QUORUMFS" put "$dir/new" "by command" >/dev/null
truncate -s 12345 f14
rm f15 && mkdir f15
exec 9>f16
shown >"$work/third"
exec 9>&-
cd / || exit 1
line() { grep " $1\$" "$work/third" | awk '{ print $1, $2, $3, $4, $5 }'; }
is "$(line f1)" "-rw-r--r-- 1 0 0 2" "an access list that was removed"
is "$(line f2)" "-rw-r--r-- 1 0 0 6" "a value that was appended to"
is "$(line f3)" "-rw-r--r-- 1 0 0 10" "a value that was put by command"
is "$(line f4)" "-rw------- 1 0 0 2" "a mode"
is "$(line f5)" "-rw-r--r-- 1 12345 12346 2" "an owner"
has "$(grep ' f6$' "$work/third")" "2001-02-03 04:05:06.789" "a time"
has "$(line f7)" "+ 1 0 0 2" "a new access list"
is "$(line f8)$(line f9)$(line f11)$(line f12)" "" "names that were taken away, also by command"
is "$(line f10), $(line linked)" "-rw-r--r-- 2 0 0 3, -rw-r--r-- 2 0 0 3" "a second name"
is "$(line new)" "-rw-r--r-- 1 0 0 10" "a name that was made by command"
is "$(line f14)" "-rw-r--r-- 1 0 0 12345" "a size"
is "$(line f15)" "drwxr-xr-x 1 0 0 0" "a directory in place of a file"

shown >"$work/known"
sync
echo 2 >/proc/sys/vm/drop_caches
shown >"$work/fresh"
is "$(diff "$work/known" "$work/fresh")" "" "the list is the one that a kernel without memory gets"

# Behind the first 512 names the next ones are read ahead, here from 1024 on: what others change then, of files that the
# kernel does not know, is listed as it is.
mkdir "$mnt/ahead"
(cd "$mnt/ahead" && for ((i = 10000; i < 13000; i++)); do echo "$i" >"$i"; done)
sync
echo 2 >/proc/sys/vm/drop_caches
cat >"$work/ahead.py" <<'END'
import os, subprocess, sys, time
program, top = sys.argv[1:]
scan = os.scandir(top)
names = [next(scan).name for _ in range(600)]
time.sleep(0.2)
for arguments in (["put", "11100", "changed meanwhile"], ["delete", "11101"], ["put", "11102a", "new"]):
    subprocess.run([program, arguments[0], os.path.join(top, arguments[1])] + arguments[2:], check=True, stdout=2)
sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in scan}
names += sizes
print(len(names), names == sorted(set(names)), sizes["11100"], "11101" in sizes, sizes.get("11102a"))
scan = os.scandir(top)
begun = [next(scan).name for _ in range(600)]
time.sleep(0.2)
os.rename(top, top + "-moved")
print(begun + [entry.name for entry in scan] == names)
END
python3 "$work/ahead.py" "$QUORUMFS" "$mnt/ahead" >"$work/ahead"
is "$(sed -n 1p "$work/ahead")" "3000 True 17 False 3" "what was read ahead is not shown once it changed"
is "$(sed -n 2p "$work/ahead")" "True" "a directory that is renamed meanwhile is listed to the end"
finish
