#!/usr/bin/env bash
# Goal: .quorumfs/events and `quorumfs watch` tell every acknowledged change, once, in order, and nothing else.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
# The time of last reading would be a change of its own, at any moment.
mount_store noatime || exit 1
events=$mnt/.quorumfs/events

# The changes since this was called last, without their timestamps.
echo 0 >"$work/since"
news() {
  tail -c "+$(($(cat "$work/since") + 1))" "$events" >"$work/news"
  echo $(($(cat "$work/since") + $(stat -c %s "$work/news"))) >"$work/since"
  cut -d ' ' -f 2- "$work/news"
}
news >/dev/null

echo blue >"$mnt/colour"
is "$(news)" "put colour" "a write that returned is there"
is "$(tail -1 "$events" | cut -d ' ' -f 1)" \
  "$(for i in 1 2 3 4 5; do sql "$i" "select timestamp from record where name = 'colour'"; done | sort -u)" \
  "with the timestamp of the version"
echo more >>"$mnt/colour"
truncate -s 3 "$mnt/colour"
: >"$mnt/colour"
truncated() { [ "$(tail -c "+$(($(cat "$work/since") + 1))" "$events" | wc -l)" -ge 3 ]; }
within 60 truncated
is "$(news | sort | uniq -c | tr -s ' ')" " 3 put colour" "appending, truncating and emptying are puts"
chmod 600 "$mnt/colour"
mkdir "$mnt/d"
ln -s colour "$mnt/link"
mkfifo "$mnt/fifo"
mv "$mnt/colour" "$mnt/d/shade"
rm "$mnt/link" "$mnt/fifo"
is "$(news)" "attr colour
mkdir d
symlink link
mknod fifo
rename colour	d/shade
delete link
delete fifo" "each kind of change"
"$QUORUMFS" put "$mnt/new/dir/k" v >/dev/null
"$QUORUMFS" delete "$mnt/absent" >/dev/null
is "$(news)" "mkdir new
mkdir new/dir
put new/dir/k
delete absent" "put and delete, with the directories made on the way"
"$QUORUMFS" put "$mnt/t" v --timestamp 9 >/dev/null
"$QUORUMFS" put "$mnt/t" v --timestamp 5 >/dev/null
cat "$mnt/t" >/dev/null && ls "$mnt" >/dev/null
echo v >"$mnt/$(printf 'a b\nc\\d\te')"
is "$(news)" 'put t
put a b\nc\\d\te' "names are escaped; what was superseded or only read is no change"
is "$(printf '%b' 'a b\nc\\d\te')" "$(cd "$mnt" && ls -d a*)" "printf %b undoes it"
exec 7<>"$mnt/t"
rm "$mnt/t"
echo hidden >&7
exec 7>&-
is "$(news | grep -v '^attr ')" "delete t" "an unlinked file that is still open is deleted, and no more is told of it"
dir_times() { for i in 1 2 3 4 5; do sql "$i" "select mtime_ns from record where name = 'new'"; done | sort -u; }
stored=$(dir_times)
echo x >"$mnt/new/x"
news >/dev/null
stored_anew() { [ "$(dir_times)" != "$stored" ]; }
within 60 stored_anew || not_ok "the times of a directory are stored"
is "$(news)" "" "times of directories are no changes"

# What is not acknowledged is not told.
for i in 1 2 3; do set_state $i down; done
(echo refused >"$mnt/never") 2>/dev/null
rm "$mnt/d/shade" 2>/dev/null
for i in 1 2 3; do set_state $i up; done
within 60 is_up 3
within 60 bash -c "echo x >'$mnt/after'" 2>/dev/null
is "$(news | grep -v '^put after')" "" "what was refused is not there"

# It grows, and readers follow it.
timeout 600 tail -n 0 -s 0.1 -f "$events" >"$work/tail" 2>"$work/tail.err" &
tail_pid=$!
follows() { echo x >"$mnt/marker" && grep -q marker "$work/tail"; }
within 60 follows && ok "tail -f follows" || not_ok "tail -f follows" "$(cat "$work/tail" "$work/tail.err")"
for i in $(seq 200); do echo "$i" >"$mnt/f$i"; done
within 60 grep -q 'put f200$' "$work/tail"
is "$(grep -c 'put f[0-9]*$' "$work/tail")" 200 "and misses nothing"
is "$(cat "$work/tail.err")" "" "without a complaint"
kill "$tail_pid"
wait "$tail_pid" 2>/dev/null
before=$(stat -c %s "$events")
echo x >"$mnt/f1"
is "$(($(stat -c %s "$events") - before))" "$(tail -1 "$events" | wc -c)" "the size is the true one"
is "$(wc -l <"$events")" "$(grep -c . "$events")" "cat reads it from the beginning"
is "$(tail -n 3 "$events" | wc -l)" 3 "tail reads its end"
fails_with 1 "Permission denied" "it cannot be written" bash -c "echo x >'$events'"
is "$(stat -c %a "$events")" 400 "only the mounter reads it: names in closed directories are in it"

# quorumfs watch
watch_out() { # NAME ARGUMENT...: started in the background; its pid is $!
  local name=$1
  shift
  "$QUORUMFS" watch "$@" >"$work/$name" 2>"$work/$name.err" &
}
watch_out all "$mnt"
all=$!
watch_out json --json "$mnt/d"
json=$!
watch_out two --count 2 "$mnt/d"
two=$!
mkdir "$mnt/d/e"
listens() { : >"$mnt/d/e/marker" && rm "$mnt/d/e/marker" && [ -s "$work/$1" ]; }
within 60 listens all && within 60 listens json
# It listens from when it got there, which may be after all of the above: it needs changes until it has had two.
ended() { : >"$mnt/d/e/marker" && rm "$mnt/d/e/marker" && dead "$two"; }
within 60 ended
wait "$two"
is "$?" 0 "watch --count ends by itself"
is "$(wc -l <"$work/two")" 2 "after so many changes"
echo 1 >"$mnt/elsewhere"
echo 2 >"$mnt/d/k"
"$QUORUMFS" put "$mnt/d/$(printf 'x\xffy')" v >/dev/null
mv "$mnt/d/k" "$mnt/gone"
within 60 grep -q 'gone' "$work/json" || not_ok "a change is told at once"
within 60 grep -q 'gone' "$work/all"
has "$(cat "$work/all")" "put elsewhere" "watch of the mount tells everything"
is "$(grep -c elsewhere "$work/json")" 0 "watch of a directory what is below it"
is "$(grep -v marker "$work/json" | sed 's/"timestamp":"[0-9]*"/T/' | tail -3)" \
  "$(printf '%s\n' '{T,"change":"put","key":"d/k"}' '{T,"change":"put","key":"d/x�y","key_uri":"d/x%FFy"}' \
    '{T,"change":"rename","key":"d/k","new_key":"gone"}')" "--json"
is "$(cat "$work/all.err" "$work/json.err")" "" "without a complaint"
kill "$json"
wait "$json" 2>/dev/null
("$QUORUMFS" watch "$mnt"; : >"$work/watch_ended") | head -1 >"$work/head" &
within 60 listens head
watch_ended() { touch "$mnt/d/e/again" && [ -e "$work/watch_ended" ]; }
passes "watch ends when its reader does" within 60 watch_ended
fails_with 2 "--count" "a wrong count" "$QUORUMFS" watch --count 0 "$mnt"
fails_with 1 "not in a mounted" "watch outside a mount" "$QUORUMFS" watch /tmp

# Parallel writers: each key's changes in the order of its versions, each acknowledged write once.
news >/dev/null
before=$(stat -c %s "$events")
for w in 1 2 3 4; do
  (for i in $(seq 50); do
    echo "$w $i" >"$mnt/w$w"
    echo "$w $i" >>"$mnt/shared"
  done) &
done
wait $(jobs -p | grep -vxF -e "$all" -e "$daemon" -e "$watchdog")
tail -c "+$((before + 1))" "$events" >"$work/parallel"
is "$(grep -c 'put w[1-4]$' "$work/parallel") $(grep -c 'put shared$' "$work/parallel")" "200 200" \
  "every write of parallel writers is told once"
for key in w1 w2 shared; do
  awk -v key="$key" '$3 == key { print $1 }' "$work/parallel" >"$work/order"
  passes "$key: in the order of its versions" sort -c -n -u "$work/order"
done

# Memory is bounded: old lines go.
all_read() { [ "$(grep -c 'put shared$' "$work/all")" -ge 200 ]; }
within 60 all_read
python3 - "$mnt" <<'END'
import os, sys
name = "n" * 200
for i in range(6000):
    with open(f"{sys.argv[1]}/{name}{i % 50}", "wb") as f:
        f.write(b"x")
END
[ "$(stat -c %s "$events")" -gt 1100000 ] && ok "more was told than is kept" || not_ok "more was told than is kept"
cat "$events" >"$work/cat"
size=$(stat -c %s "$work/cat")
[ "$size" -le 1048576 ] && [ "$size" -gt 1000000 ] && ok "the latest MiB is kept" || not_ok "the latest MiB is kept" "$size"
is "$(head -1 "$work/cat" | cut -d ' ' -f 2)" put "whole lines go"
fails_with 1 "No data" "what is gone cannot be read by its place" dd if="$events" of=/dev/null bs=1 skip=10 count=1 status=none
told_or_lost() { awk '/ put nnnn/ { n++ } $2 == "lost" { n += $3 } END { print n + 0 }' "$work/all"; }
all_told() { [ "$(told_or_lost)" -ge 6000 ]; }
within 60 all_told
is "$(told_or_lost)" 6000 "watch keeps up, or says how much it lost"

# A watcher that was stopped meanwhile is told what it missed.
exec 8<"$events"
cat <&8 >/dev/null
python3 - "$mnt" <<'END'
import sys
name = "m" * 240
for i in range(6000):
    with open(f"{sys.argv[1]}/{name}", "wb") as f:
        f.write(b"x")
END
cat <&8 >"$work/late"
exec 8<&-
lost=$(sed -n '1s/^0 lost \([0-9]*\)$/\1/p' "$work/late")
is "$((lost + $(grep -c ' put mmm' "$work/late")))" 6000 "who fell behind is told how much"

# The end of the mount ends those who wait.
unmount_store
wait "$all"
is "$?" 1 "watch ends with the mount"
has "$(cat "$work/all.err")" "unmounted" "and says why"
finish
