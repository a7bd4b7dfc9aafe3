#!/usr/bin/env bash
# Goal: put, get and delete with explicit timestamps: the newest wins everywhere, whatever the order.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1
k=$mnt/k

is "$("$QUORUMFS" put "$k" new --timestamp 9)" applied "put"
is "$("$QUORUMFS" put "$k" old --timestamp 5)" "superseded by 9" "an older put is superseded"
passes "and that is a success" "$QUORUMFS" put "$k" old --timestamp 5
is "$(cat "$k")" new "the value is unchanged"
is "$("$QUORUMFS" delete "$k" --timestamp 8)" "superseded by 9" "an older delete is superseded"
is "$("$QUORUMFS" put --json "$k" old --timestamp 5)" '{"outcome": "superseded", "timestamp": "9"}' "put tells that as JSON"
is "$("$QUORUMFS" delete --json "$k" --timestamp 8)" '{"outcome": "superseded", "timestamp": "9"}' "so does delete"
is "$("$QUORUMFS" put --json "$mnt/json" x --timestamp 4)" '{"outcome": "applied", "timestamp": "4"}' "and what was applied"
is "$("$QUORUMFS" delete "$k" --timestamp 10)" applied "a newer delete is not"
fails_with 1 "No such file" "and cat sees it at once" cat "$k"
is "$("$QUORUMFS" put "$k" late --timestamp 9)" "superseded by 10" "a delete is remembered against older puts"
fails_with 1 "No such file" "the deleted key stays away" cat "$k"
is "$("$QUORUMFS" delete "$mnt/never" --timestamp 3)" applied "deleting an absent key succeeds"
is "$("$QUORUMFS" put "$mnt/never" x --timestamp 2)" "superseded by 3" "and is remembered"

first=$("$QUORUMFS" put "$mnt/tie" aaa --timestamp 7)
second=$("$QUORUMFS" put "$mnt/tie" bbb --timestamp 7)
third=$("$QUORUMFS" put "$mnt/tie" aaa --timestamp 7)
within 60 is_settled
has "$first $second $third" applied "ties are decided"
is "$(for i in 1 2 3 4 5; do sql "$i" "select hex(data) from record where name = 'tie' and hint = 0"; done | sort | uniq -c | awk '{ print $1 }')" \
  3 "every replica has the same winner of a tie"
is "$("$QUORUMFS" get "$mnt/tie")" "$(cat "$mnt/tie")" "which get and cat agree on"
is "$("$QUORUMFS" delete "$mnt/tie" --timestamp 7)" applied "a tombstone wins a tie"
is "$("$QUORUMFS" put "$mnt/tie" zzz --timestamp 7)" "superseded by 7" "against any value"

"$QUORUMFS" put "$mnt/far" x --timestamp 18000000000000000000 >/dev/null
echo plain >"$mnt/far"
is "$(cat "$mnt/far")" plain "a plain write goes above a far-future timestamp"
echo other >"$mnt/near"
within 60 is_settled
is "$(sql "$(for i in 1 2 3 4 5; do [ -z "$(sql "$i" "select 1 from record where name = 'near'")" ] || echo "$i"; done | head -1)" \
  "select timestamp > 0 and timestamp < 9000000000000000000 from record where name = 'near'")" 1 \
  "which does not drag the clock along"
is "$("$QUORUMFS" put "$mnt/end" x --timestamp 18446744073709551615)" applied "the greatest timestamp"
fails_with 1 "Value too large" "nothing is above it" bash -c "echo y > '$mnt/end'"
is "$(cat "$mnt/end")" x "the value stays"
passes "but rm ties and wins" rm "$mnt/end"
is "$("$QUORUMFS" put "$mnt/zero" x --timestamp 0)" applied "timestamp 0"
is "$("$QUORUMFS" put "$mnt/zero" y --timestamp 1)" applied "is below 1"
is "$("$QUORUMFS" put "$mnt/sign" a --timestamp 9223372036854775808)" applied "timestamps are unsigned"
is "$("$QUORUMFS" put "$mnt/sign" b --timestamp 1)" "superseded by 9223372036854775808" "in their order too"

is "$("$QUORUMFS" put "$mnt/p/q/r" deep)" applied "put makes missing parents"
is "$(cat "$mnt/p/q/r")" deep "which ls and cat see at once"
ls "$mnt/n1" >/dev/null 2>&1
"$QUORUMFS" put "$mnt/n1/n2" v >/dev/null
is "$(ls "$mnt/n1")" n2 "also when the kernel knew them absent"
exec 7<"$mnt/p/q/r"
"$QUORUMFS" put "$mnt/p/q/r" newer >/dev/null
is "$(cat "$mnt/p/q/r")" newer "a put is seen by readers at once"
exec 7<&-
is "$(printf 'a\nb\n' | "$QUORUMFS" put "$mnt/in" -)" applied "put from standard input"
is "$(cat "$mnt/in")" $'a\nb' "byte for byte"
is "$(head -c 5000000 /dev/zero | tr '\0' z | "$QUORUMFS" put "$mnt/large" -)" applied "put of 5 MB"
is "$("$QUORUMFS" get "$mnt/large" | md5sum)" "$(head -c 5000000 /dev/zero | tr '\0' z | md5sum)" "and back"
is "$("$QUORUMFS" put "$mnt/nothing" '')" applied "put of an empty value"
is "$(stat -c %s "$mnt/nothing")" 0 "is empty"
is "$("$QUORUMFS" put -- "$mnt/dash" -x)" applied "put of a value that begins with '-'"
is "$("$QUORUMFS" put "$mnt/name with % and "$'\n' v)" applied "put of any name"
is "$(cat "$mnt/name with % and "$'\n')" v "and back"
(cd "$mnt/p/q" && "$QUORUMFS" put ../s "from below" >/dev/null)
is "$("$QUORUMFS" get "$mnt/p/s")" "from below" "relative paths with .."
"$QUORUMFS" get "$mnt/absent" 2>/dev/null
is "$?" 1 "get of an absent key exits 1"
fails_with 2 "Is a directory" "get of a directory exits 2" "$QUORUMFS" get "$mnt/p"
fails_with 1 "Is a directory" "put onto a directory" "$QUORUMFS" put "$mnt/p" x
fails_with 1 "Not a directory" "put below a value" "$QUORUMFS" put "$mnt/in/x" x
fails_with 1 "mountpoint" "put onto the mountpoint" "$QUORUMFS" put "$mnt" x
fails_with 1 "reserved" "put into .quorumfs" "$QUORUMFS" put "$mnt/.quorumfs/x" x
fails_with 1 "File name too long" "put of a long name" "$QUORUMFS" put "$mnt/$(printf 'n%.0s' $(seq 256))" x
finish
