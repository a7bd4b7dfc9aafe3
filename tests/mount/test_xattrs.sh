#!/usr/bin/env bash
# Goal: virtual xattrs tell a version's timestamp, name, birth and replicas; if-timestamp makes the next write conditional, so that
# of writers who race only one wins.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
# Storing when a file was read last makes a new version, about a second later.
mount_store nodes=5,replicas=3,noatime || exit 1
k=$mnt/k
get() { getfattr --only-values --absolute-names -n "user.quorumfs.$1" "$2"; }
set_if() { setfattr -n user.quorumfs.if-timestamp -v "$1" "$2"; }

"$QUORUMFS" put "$k" blue --timestamp 42 >/dev/null
is "$(get timestamp "$k")" 42 "timestamp"
within 60 is_settled
is "$(get replicas "$k" | tr ' ' '\n' | sed 's/^[1-5]=//' | sort | uniq -c | tr -s ' ')" " 3 42" "replicas: three nodes have it"
for pair in $(get replicas "$k"); do
  node=${pair%=*}
  [ "$(sql "$node" "select timestamp <> 0 from record where name = 'k'")" = 1 ] || not_ok "node $node has no row"
done
before=$(date +%s)
echo x >"$mnt/born"
birth=$(get birthtime "$mnt/born")
[[ $birth =~ ^[0-9]+\.[0-9]{9}$ ]] && [ "${birth%.*}" -ge $((before - 1)) ] && ok "birthtime" || not_ok "birthtime" "$birth"
v1=$(get version "$mnt/born")
chmod 600 "$mnt/born"
v2=$(get version "$mnt/born")
[ "$v1" != "$v2" ] && [ "${v2%-*}" = "$(get timestamp "$mnt/born")" ] && ok "version" || not_ok "version" "$v1 $v2"
is "$(get birthtime "$mnt/born")" "$birth" "the birth stays"
mkdir "$mnt/dir"
is "$(get timestamp "$mnt/dir")" "$(get version "$mnt/dir" | cut -d- -f1)" "of a directory"
node=$(get replicas "$k" | cut -d= -f1)
set_state "$node" down
has " $(get replicas "$k") " " $node=down " "a node that is down"
echo green >"$k"
three_have_it() { [ "$(get replicas "$k" | tr ' ' '\n' | grep -c "=$(get timestamp "$k")$")" = 3 ]; }
within 60 three_have_it && ok "and who stands in for it" || not_ok "and who stands in for it" "$(get replicas "$k")"
set_state "$node" up
within 60 is_up "$node"

is "$(getfattr -m - -d --absolute-names "$k")" "" "they are never listed"
for name in timestamp version birthtime replicas other; do
  fails_with 1 "Operation not permitted" "$name cannot be set" setfattr -n "user.quorumfs.$name" -v 5 "$k"
done
fails_with 1 "Operation not permitted" "nor removed" setfattr -x user.quorumfs.timestamp "$k"
fails_with 1 "No such attribute" "if-timestamp cannot be read" getfattr -n user.quorumfs.if-timestamp "$k"
fails_with 1 "No such attribute" "others are absent" getfattr -n user.other "$k"
fails_with 1 "No such attribute" "control files have none" getfattr -n user.quorumfs.timestamp "$mnt/.quorumfs/status"
fails_with 1 "Invalid argument" "if-timestamp takes a number" set_if 5x "$k"
fails_with 1 "Invalid argument" "of a file" set_if 5 "$mnt/dir"
passes "cp -a goes on working" cp -a "$k" "$mnt/copy"

# put --if-timestamp
t=$(get timestamp "$k")
is "$("$QUORUMFS" put "$k" one --if-timestamp "$t")" applied "put --if-timestamp of the stored one"
fails_with 1 "Stale file handle (the stored timestamp is $(get timestamp "$k"))" "of another" "$QUORUMFS" put "$k" two --if-timestamp "$t"
is "$(cat "$k")" one "which changes nothing"
is "$("$QUORUMFS" put "$mnt/a/b" first --if-timestamp 0)" applied "0: only if there is none"
fails_with 1 "Stale file handle" "and there is one now" "$QUORUMFS" put "$mnt/a/b" second --if-timestamp 0
fails_with 1 "there is no such key" "of an absent key" "$QUORUMFS" put "$mnt/c/d" x --if-timestamp 7
passes "nothing was made on the way" test ! -e "$mnt/c"
rm "$mnt/a/b"
is "$("$QUORUMFS" put "$mnt/a/b" again --if-timestamp 0)" applied "0 also after a delete"
fails_with 1 "Stale file handle" "large values" bash -c "head -c 3000000 /dev/zero | '$QUORUMFS' put '$k' - --if-timestamp $t"
is "$(head -c 3000000 /dev/zero | "$QUORUMFS" put "$k" - --if-timestamp "$(get timestamp "$k")")" applied "too"
fails_with 2 "--if-timestamp" "a wrong one" "$QUORUMFS" put "$k" x --if-timestamp soon

# A script: setfattr, then > or >>.
echo one >"$k"
t=$(get timestamp "$k")
set_if "$t" "$k"
(echo two >"$k") && ok "> after if-timestamp of the stored one" || not_ok "> after if-timestamp of the stored one"
is "$(cat "$k")" two "writes"
set_if "$t" "$k"
output=$( (echo three >"$k") 2>&1)
has "$output" "Stale file handle" "of another one it fails with ESTALE"
is "$(cat "$k")" two "and changes nothing"
echo four >"$k"
is "$(cat "$k")" four "the condition is used up"
set_if "$t" "$k"
output=$( (cat "$mnt/copy" >>"$k") 2>&1)
has "$output" "Stale file handle" ">> of a program that the script runs"
is "$(cat "$k")" four "appends nothing"
set_if "$(get timestamp "$k")" "$k"
cat "$mnt/born" >>"$k"
is "$(cat "$k")" "four
x" "or appends"
set_if "$t" "$k"
: >"$k"
is "$(cat "$k")" "four
x" ": > is conditional, too"
set_if "$(get timestamp "$k")" "$k"
: >"$k"
emptied() { [ ! -s "$k" ]; }
within 60 emptied && ok "and empties otherwise" || not_ok "and empties otherwise"
echo five >"$k"
t=$(get timestamp "$k")
timeout 60 setfattr -n user.quorumfs.if-timestamp -v 1 "$k"
output=$( (echo six >"$k") 2>&1)
has "$output" "Stale" "a wrapped setfattr"
set_if "$t" "$k"
rm "$k"
output=$( (echo seven >"$k") 2>&1)
has "$output" "Stale" "a key that was deleted meanwhile is not made"
passes "neither empty" test ! -e "$k"
echo eight >"$k"
set_if 1 "$k"
bash -c 'exec bash -c "echo nine >\"$1\"" - "$1"' - "$k" 2>/dev/null
is "$(cat "$k")" eight "a shell run by the script is conditional"
# An orphan: nobody's child, as soon as its parent is gone.
set_if 1 "$k"
(parent=$BASHPID; setsid bash -c 'while [ -e "/proc/$2" ]; do sleep 0.05; done; echo ten >"$1"' - "$k" "$parent" >/dev/null 2>&1 &)
wrote() { [ "$(cat "$k")" = "$1" ]; }
within 60 wrote ten && ok "writers that are not meant are not" || not_ok "writers that are not meant are not"

# A truncation that is conditional is nobody else's.
set_if 1 "$k"
exec 7>"$k"
echo eleven >>"$k"
is "$(cat "$k")" "ten
eleven" "while > waits with its condition others see and change the value"
(echo twelve >&7) 2>/dev/null && not_ok "it fails" || ok "it fails"
exec 7>&-
is "$(cat "$k")" "ten
eleven" "and took nothing away"

# A program: fsetxattr, then write, in many processes and threads: no increment is lost.
cat >"$work/cas.py" <<'END'
import errno, os, sys, threading
path, times, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def increment(replace):
    while True:
        stamp = os.getxattr(path, "user.quorumfs.timestamp") # before the open: what is read is no older
        fd = os.open(path, os.O_RDONLY)
        try:
            value = int(os.pread(fd, 100, 0))
            if replace:
                os.setxattr(fd, "user.quorumfs.if-timestamp", stamp)
                out = os.open(path, os.O_WRONLY | os.O_TRUNC)
            else:
                out = os.open(path, os.O_WRONLY)
                os.setxattr(out, "user.quorumfs.if-timestamp", stamp)
            try:
                os.write(out, b"%09d" % (value + 1))
                return
            finally:
                os.close(out)
        except OSError as e:
            if e.errno != errno.ESTALE:
                raise
        finally:
            os.close(fd)
def run(i):
    for j in range(times):
        increment((i + j) % 2)
workers = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
[w.start() for w in workers]
[w.join() for w in workers]
END
echo 000000000 >"$mnt/counter"
printf '%s' 000000000 >"$mnt/counter"
pids=()
for p in 1 2 3; do
  python3 "$work/cas.py" "$mnt/counter" 40 1 2>>"$work/cas.err" &
  pids+=($!)
done
python3 "$work/cas.py" "$mnt/counter" 20 2 2>>"$work/cas.err" &
pids+=($!)
wait "${pids[@]}"
is "$(cat "$mnt/counter")" 000000160 "increments by compare-and-swap of parallel programs: none is lost"
is "$(cat "$work/cas.err")" "" "without a complaint"

# The same by the command, with nodes that come and go.
printf 0 >"$mnt/shell"
cat >"$work/cas.sh" <<'END'
for i in $(seq 15); do
  while :; do
    t=$(getfattr --only-values --absolute-names -n user.quorumfs.timestamp "$1") || exit
    n=$(cat "$1") || exit
    "$2" put "$1" $((n + 1)) --if-timestamp "$t" >/dev/null 2>&1 && break
  done
done
END
pids=()
for p in 1 2 3 4; do
  bash "$work/cas.sh" "$mnt/shell" "$QUORUMFS" &
  pids+=($!)
done
set_state 1 down
set_state 2 crash
set_state 1 up
set_state 2 up
wait "${pids[@]}"
is "$(cat "$mnt/shell")" 60 "and of parallel scripts, with nodes that come and go"
# And by setfattr and >.
printf 0 >"$mnt/shell"
sed -i 's|"$2" put .*|set_and_write "$1" $((n + 1)) "$t" 2>/dev/null \&\& break|' "$work/cas.sh"
sed -i '1i set_and_write() { setfattr -n user.quorumfs.if-timestamp -v "$3" "$1" \&\& echo "$2" >"$1"; }' "$work/cas.sh"
pids=()
for p in 1 2 3 4; do
  bash "$work/cas.sh" "$mnt/shell" "$QUORUMFS" &
  pids+=($!)
done
wait "${pids[@]}"
is "$(cat "$mnt/shell")" 60 "and of scripts with setfattr and >"
finish
