#!/usr/bin/env bash
# Goal: times are stored to the nanosecond over all years that records hold, and a file's time of last reading follows
# the rule of relatime, costing reads nothing and superseding nothing.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
cd "$work" || exit 1

mount_store nodes=3,replicas=3 || exit 1
utime() { # PATH ATIME_NS MTIME_NS
  python3 -c 'import os, sys; os.utime(sys.argv[1], ns=(int(sys.argv[2]), int(sys.argv[3])))' "$@"
}
times() { python3 -c 'import os, sys; s = os.stat(sys.argv[1]); print(s.st_atime_ns, s.st_mtime_ns)' "$1"; }
atime_s() { stat -c %X "$1"; }
atime_ns() { python3 -c 'import os, sys; print(os.stat(sys.argv[1]).st_atime_ns)' "$1"; }
timestamps() { sql 1 "select timestamp from record where name = '$1'"; }
stored_atime() { sql 1 "select atime_ns from record where name = '$1'"; }

echo x >"$mnt/old"
mkdir "$mnt/dir"
utime "$mnt/old" -5000000001 -7123456789
utime "$mnt/dir" -1 -9000000000000000002
is "$(times "$mnt/old") $(times "$mnt/dir")" "-5000000001 -7123456789 -1 -9000000000000000002" "times before 1970, to the nanosecond"
echo x >"$mnt/new"
utime "$mnt/new" 4102444800000000001 9000000000000000002
is "$(times "$mnt/new")" "4102444800000000001 9000000000000000002" "times after 2038"
touch -d '9999-01-01' "$mnt/far"
is "$(stat -c %y "$mnt/far" | cut -c1-4)" 2262 "what is later than records hold becomes the latest that they do"
unmount_store
mount_store || exit 1
is "$(times "$mnt/old") $(times "$mnt/new")" \
  "-5000000001 -7123456789 4102444800000000001 9000000000000000002" "they are there at the next mount"

# Times that the store chooses.
exec 7>"$mnt/late"
opened=$(date +%s%N)
echo x >&7
exec 7>&-
written=$(python3 -c 'import os, sys; print(os.stat(sys.argv[1]).st_mtime_ns)' "$mnt/late")
is "$(python3 -c "print($written >= $opened)")" True "the time of a first write is when it is written, not when it is opened"
mkdir "$mnt/changed"
mkdir "$mnt/changed/in"
changed_ns=$(times "$mnt/changed" | cut -d ' ' -f 2)
chmod 700 "$mnt/changed"
ctime_ns() { python3 -c 'import os, sys; print(os.stat(sys.argv[1]).st_ctime_ns)' "$1"; }
ctime=$(ctime_ns "$mnt/changed")
is_stored() { [ "$(sql 1 "select mtime_ns from record where name = 'changed'")" = "$changed_ns" ]; }
if within 60 is_stored; then ok "a directory's time of change is stored"; else not_ok "a directory's time of change is stored"; fi
is "$(ctime_ns "$mnt/changed")" "$ctime" "which sets no later ctime back"
utime "$mnt/changed" 0 7000000000000000000
mkdir "$mnt/changed/more"
is "$(python3 -c "import os; print(os.stat('$mnt/changed').st_mtime_ns < 7000000000000000000)")" True \
  "what is made in a directory sets its time, also from one in the future"

# relatime
echo one >"$mnt/k"
mtime=$(stat -c %.9Y "$mnt/k")
before=$(stat -c '%.9Y %.9Z' "$mnt/k")
within 60 is_settled
version=$(timestamps k)
cat "$mnt/k" >/dev/null
first=$(atime_ns "$mnt/k")
is "$(python3 -c "print($first > int('${mtime/./}'))")" True "the first read after a write sets the time of last reading"
cat "$mnt/k" >/dev/null
head -c1 "$mnt/k" >/dev/null
is "$(atime_ns "$mnt/k")" "$first" "the next ones do not"
is "$(stat -c '%.9Y %.9Z' "$mnt/k")" "$before" "and mtime and ctime stay"
if within 60 eval '[ "$(stored_atime k)" = "$first" ]'; then ok "it is stored soon"; else not_ok "it is stored soon" "$(stored_atime k)"; fi
is "$(timestamps k)" "$version" "as the same version: reading supersedes nothing"
within 60 is_settled
"$QUORUMFS" put "$mnt/stamped" new --timestamp 9 >/dev/null
cat "$mnt/stamped" >/dev/null
within 60 eval '[ "$(stored_atime stamped)" != "$(sql 1 "select mtime_ns from record where name = '\''stamped'\''")" ]'
is "$("$QUORUMFS" put "$mnt/stamped" newer --timestamp 10)" applied "a put with the next timestamp goes through after a read"
chmod 600 "$mnt/k"
cat "$mnt/k" >/dev/null
later() { [ "$(stored_atime "$1")" -gt "$2" ]; }
passes "a read after a change of attributes sets it, also from the page cache" within 60 later k "$first"
now=$(date +%s)
utime "$mnt/k" $(((now - 3600) * 1000000000)) $(((now - 7200) * 1000000000))
chmod 644 "$mnt/k"
cat "$mnt/k" >/dev/null # ctime is now older than atime
set_to=$(((now + 50000) * 1000000000))
utime "$mnt/k" "$set_to" $(((now - 7200) * 1000000000))
cat "$mnt/k" >/dev/null
is "$(atime_ns "$mnt/k")" "$set_to" "a time in the future stays"
: >"$mnt/empty"
touch -a -d '2001-01-01' "$mnt/empty"
cat "$mnt/empty"
passes "of an empty file, too" within 60 later empty "$(((now - 1) * 1000000000))"
cat "$mnt/old" >/dev/null
is "$(python3 -c "print($(atime_s "$mnt/old") >= $now)")" True "and of one that was read before 1970"
reading_is_stored() { [ "$(stored_atime old)" -gt 0 ]; }
if within 60 reading_is_stored; then ok "which is stored, too"; else not_ok "which is stored, too" "$(stored_atime old)"; fi
touch -a -d '2001-01-01' "$mnt/dir"
ls "$mnt/dir"
is "$(python3 -c "print($(atime_s "$mnt/dir") >= $now)")" True "of a directory that is listed"
ln -s k "$mnt/link"
touch -h -a -d '2001-01-01' "$mnt/link"
readlink "$mnt/link" >/dev/null
is "$(python3 -c "print($(atime_s "$mnt/link") >= $now)")" True "of a symlink that is followed"
rdwr() {
  python3 - "$1" "$2" <<'END'
import os, sys
path, flags = sys.argv[1], int(sys.argv[2])
os.utime(path, (1000, os.stat(path).st_mtime))
fd = os.open(path, os.O_RDWR | flags)
before = os.stat(path).st_atime
os.pread(fd, 1, 0)
os.close(fd)
print(before == 1000, os.stat(path).st_atime > 1000)
END
}
echo x >"$mnt/rw"
is "$(rdwr "$mnt/rw" 0)" "True True" "opened for both it counts when it reads"
is "$(rdwr "$mnt/rw" "$(python3 -c 'import os; print(os.O_NOATIME)')")" "True False" "O_NOATIME leaves it alone"
# Explicit times are never overtaken by a read before them.
lost=$(
  for i in $(seq 100); do
    echo "$i" >"$mnt/race"
    cat "$mnt/race" >/dev/null
    touch -a -d @1000 "$mnt/race"
    [ "$(atime_s "$mnt/race")" = 1000 ] || echo "$i"
  done
)
is "$lost" "" "touch after a read wins"
if within 60 eval '[ "$(stored_atime race)" = 1000000000000 ]'; then ok "and is what is stored"; else not_ok "and is what is stored" "$(stored_atime race)"; fi
cat "$mnt/k" >/dev/null
for i in 2 3; do set_state $i down; done
passes "without a quorum reads go on" cat "$mnt/new"
for i in 2 3; do set_state $i up; done
within 60 is_up 2 && within 60 is_up 3
cat "$mnt/race" >/dev/null
unmount_store
mount_store || exit 1
is "$(python3 -c "print($(atime_s "$mnt/race") >= $now)")" True "what was noted just before an unmount is there after it"
unmount_store
mount_store noatime || exit 1
touch -a -d @1000 "$mnt/k"
cat "$mnt/k" >/dev/null
ls "$mnt" >/dev/null
is "$(atime_s "$mnt/k")" 1000 "with -o noatime nothing is noted"
finish
