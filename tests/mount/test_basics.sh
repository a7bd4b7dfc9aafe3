#!/usr/bin/env bash
# Goal: keys are files, for the shell and the usual tools, and a value lies on exactly K replicas.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1

echo blue >"$mnt/colour"
is "$?" 0 "echo > writes a key"
is "$(cat "$mnt/colour")" blue "cat prints it"
is "$(stat -c %s "$mnt/colour")" 5 "stat tells its size"
is "$(ls "$mnt")" colour "ls lists it"
within 60 is_settled
is "$(holders colour 1)" 3 "the value lies in exactly 3 of 5 SQLite files"
node=$(for i in 1 2 3 4 5; do [ -z "$(sql "$i" "select 1 from record where name = 'colour'")" ] || echo "$i"; done | head -1)
is "$(sql "$node" "select cast(data as text) from record where dir = '' and name = 'colour'")" blue \
  "the sqlite3 shell reads it"
rm "$mnt/colour"
is "$?" 0 "rm deletes it"
fails_with 1 "No such file or directory" "cat of a deleted key fails" cat "$mnt/colour"
within 60 is_settled
is "$(holders colour 0)" 3 "the delete lies as a tombstone in exactly 3 of 5 SQLite files"
is "$(holders colour 1)" 0 "and the value in none"

: >"$mnt/empty"
is "$(stat -c %s "$mnt/empty")" 0 ": > makes an empty value"
is "$(wc -c <"$mnt/empty")" 0 "which is read as empty"
echo one >"$mnt/log" && echo two >>"$mnt/log"
is "$(cat "$mnt/log")" $'one\ntwo' ">> appends"
echo three >"$mnt/log"
is "$(cat "$mnt/log")" three "> replaces"

passes "mkdir" mkdir "$mnt/d"
passes "mkdir -p" mkdir -p "$mnt/d/e/f"
fails_with 1 "File exists" "mkdir of what exists" mkdir "$mnt/d"
echo deep >"$mnt/d/e/f/g"
is "$(cat "$mnt/d/e/f/g")" deep "a key in a directory"
fails_with 1 "Directory not empty" "rmdir of a full directory" rmdir "$mnt/d/e/f"
fails_with 1 "Is a directory" "rm of a directory" rm "$mnt/d/e"
fails_with 1 "Is a directory" "a directory holds no value" bash -c "echo x > '$mnt/d'"
fails_with 1 "Not a directory" "a value holds no keys" bash -c "echo x > '$mnt/log/x'"
rm "$mnt/d/e/f/g"
passes "rmdir of an empty directory" rmdir "$mnt/d/e/f"
is "$(ls "$mnt/d/e" | wc -l)" 0 "an empty directory stays"
passes "rm -r removes a tree" rm -r "$mnt/d"
fails_with 2 "No such file" "and all of it" ls "$mnt/d"

echo a >"$mnt/a" && echo b >"$mnt/b"
passes "mv" mv "$mnt/a" "$mnt/c"
is "$(cat "$mnt/c")" a "moves the value"
fails_with 1 "No such file" "away from its old name" cat "$mnt/a"
passes "mv over an existing key" mv "$mnt/c" "$mnt/b"
is "$(cat "$mnt/b")" a "replaces it"
mkdir "$mnt/sub" && passes "mv into a directory" mv "$mnt/b" "$mnt/sub/"
is "$(cat "$mnt/sub/b")" a "keeps the value"
within 60 is_settled
is "$(holders sub/b 1) $(holders b 0)" "3 3" "the replicas followed the moves"

printf 0123456789 >"$mnt/t"
passes "truncate shortens" truncate -s 4 "$mnt/t"
is "$(cat "$mnt/t")" 0123 "to what it says"
passes "truncate extends" truncate -s 6 "$mnt/t"
is "$(od -An -c "$mnt/t" | tr -d ' ')" '0123\0\0' "with zeros"
printf XY | dd of="$mnt/t" bs=1 seek=2 conv=notrunc status=none
is "$(od -An -c "$mnt/t" | tr -d ' ')" '01XY\0\0' "dd conv=notrunc patches in place"
passes "touch" touch -d @1234567890.123456789 "$mnt/t"
is "$(stat -c %.9Y "$mnt/t")" 1234567890.123456789 "keeps nanoseconds"
passes "chmod" chmod 640 "$mnt/t"
is "$(stat -c %a "$mnt/t")" 640 "sets the mode"
passes "statfs tells space" test "$(stat -f -c %b "$mnt")" -gt 0

cp "$BASH" "$mnt/bash"
passes "cp and cmp" cmp "$BASH" "$mnt/bash"
is "$(stat -c %s "$mnt/bash")" "$(stat -c %s "$BASH")" "the size is right"
dd if="$mnt/bash" bs=1 skip=65530 count=20 status=none | cmp - <(dd if="$BASH" bs=1 skip=65530 count=20 status=none)
is "$?" 0 "a read across a chunk border"
exec 7<"$mnt/log"
rm "$mnt/log"
is "$(cat <&7)" three "an unlinked open file stays readable"
exec 7<&-
finish
