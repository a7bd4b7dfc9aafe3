#!/usr/bin/env bash
# Goal: names may be any bytes but '/' and NUL, up to 255; longer ones are refused; .quorumfs is reserved.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1

long=$(printf 'n%.0s' $(seq 255))
# shellcheck disable=SC2016
names=("with space" $'new\nline' "grün-日本" "-dash" "--help" "'quote\"" '$HOME' '*' 'back\slash' $'\xff\xfe bytes'
  " " "%2F" "a:b" "#" "$long")
for i in "${!names[@]}"; do
  printf '%s' "value of ${names[i]}" >"$mnt/${names[i]}"
  is "$(cat "$mnt/${names[i]}")" "value of ${names[i]}" "strange name $i"
done
is "$(find "$mnt" -mindepth 1 -printf x | wc -c)" ${#names[@]} "all are listed"
listed=0
while IFS= read -r -d '' path; do
  [ "$(cat "$path")" = "value of ${path#"$mnt/"}" ] && listed=$((listed + 1))
done < <(find "$mnt" -type f -print0)
is "$listed" ${#names[@]} "with the names that they were given"
fails_with 1 "File name too long" "256 bytes" bash -c "echo x > '$mnt/${long}n'"
fails_with 1 "File name too long" "256 bytes for mkdir" mkdir "$mnt/${long}n"
fails_with 1 "File name too long" "256 bytes for a reader" cat "$mnt/${long}n"
deep=$mnt
key=
while [ $((${#key} + 201)) -le 3900 ]; do
  key+=$(printf 'd%.0s' $(seq 200))/
done
passes "a deep path" mkdir -p "$deep/$key"
cd "$mnt" || exit 1
for ((i = 0; i < 15; i++)); do cd "$(printf 'd%.0s' $(seq 200))" || break; done
echo bottom >k
is "$(cat k)" bottom "a key of more than 3,000 bytes"
cd /
passes "is removed from above" rm -r "$mnt/$(printf 'd%.0s' $(seq 200))"

is "$(cd "$mnt" && ls -a | grep -c quorumfs)" 0 ".quorumfs is not listed"
passes "but there by name" test -d "$mnt/.quorumfs"
for command in "mkdir $mnt/.quorumfs" "rmdir $mnt/.quorumfs" "mv $mnt/.quorumfs $mnt/x" "touch $mnt/.quorumfs/new" \
  "rm -r $mnt/.quorumfs/status"; do
  read -r -a words <<<"$command"
  limited 30 "${words[@]}" 2>/dev/null
  is "$?" 1 "${words[0]} on .quorumfs is refused"
done
finish
