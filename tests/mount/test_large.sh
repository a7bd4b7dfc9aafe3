#!/usr/bin/env bash
# Goal: a value of 1 GiB goes in and comes out unchanged while the daemon's memory stays below 200 MiB.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-3000}
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mib=${LARGE_MIB:-1024}
free_kib=$(df --output=avail -k "$work" | tail -1)
if [ "$free_kib" -lt $((mib * 12 * 1024)) ]; then
  skip "a large value" "needs $((mib * 12)) MiB of disk, there are $((free_kib / 1024))"
  finish
fi
mount_store || exit 1
# Not compressible and different in every chunk.
head -c $((mib * 1048576)) /dev/urandom >"$work/original"
started=$(now_ms)
passes_long() { # NAME COMMAND...
  local name=$1
  shift
  if limited 1200 "$@"; then ok "$name"; else not_ok "$name"; fi
}
passes_long "cp of $mib MiB in" cp "$work/original" "$mnt/large"
copied=$(now_ms)
is "$(stat -c %s "$mnt/large")" $((mib * 1048576)) "its size"
passes_long "cp out" cp "$mnt/large" "$work/back"
diag "in: $(((copied - started) / 1000)) s, out: $((($(now_ms) - copied) / 1000)) s"
passes_long "compares equal" cmp "$work/original" "$work/back"
rm "$work/back"
peak_kib=$(awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status")
passes "the daemon's memory peaked at $((peak_kib / 1024)) MiB" test "$peak_kib" -lt $((200 * 1024))

# A patch in the middle costs what the patch costs.
within 600 is_settled # what came in is written by then
offset=$((mib * 1048576 / 2 + 12345))
written_before=$(awk '/^write_bytes/ { print $2 }' "/proc/$daemon/io")
printf 'a patch across the middle' | dd of="$mnt/large" bs=1M seek=$offset oflag=seek_bytes conv=notrunc,fsync status=none
written=$(($(awk '/^write_bytes/ { print $2 }' "/proc/$daemon/io") - written_before))
passes "a patch of 25 bytes writes $((written / 1024)) KiB" test "$written" -lt $((32 * 1048576))
printf 'a patch across the middle' | dd of="$work/original" bs=1M seek=$offset oflag=seek_bytes conv=notrunc status=none
passes_long "and only the patch changed" cmp "$work/original" "$mnt/large"
passes_long "put streams it from standard input" bash -c "'$QUORUMFS' put '$mnt/again' - <'$work/original' >/dev/null"
passes_long "unchanged" cmp "$work/original" "$mnt/again"
peak_kib=$(awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status")
passes "the daemon's memory peaked at $((peak_kib / 1024)) MiB after all" test "$peak_kib" -lt $((200 * 1024))
passes_long "rm" rm "$mnt/large" "$mnt/again"
finish
