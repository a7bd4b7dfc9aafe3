#!/usr/bin/env bash
# Goal: parallel readers and writers see whole values only, and lose nothing.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
seconds=${OVERWRITE_SECONDS:-12}
mount_store || exit 1

# Two writers overwrite one key by `>`, two readers read it. A value is one line of one letter repeated,
# of the length that belongs to the letter. A reader that pauses in the middle may go on in a newer one (README.md, Files):
# where `cat` was held up for longer than the shortest such pause, only what is no value's byte is wrong.
overwrite() { # LETTER LENGTH
  local value
  value=$(printf "%$2s" "" | tr ' ' "$1")
  while [ ! -e "$work/stop" ]; do
    echo "$value" >"$mnt/shared" || echo "write failed" >>"$work/bad"
    echo x >>"$work/writes"
  done
}
watch_values() {
  local value began
  while [ ! -e "$work/stop" ]; do
    began=${EPOCHREALTIME/[.,]/}
    value=$(cat "$mnt/shared")
    case $value in
    "$a" | "$b") ;;
    *[!ab]*) echo "wrong bytes" >>"$work/bad" ;;
    *) [ $((${EPOCHREALTIME/[.,]/} - began)) -ge 100000 ] || echo "not whole: ${#value} bytes" >>"$work/bad" ;;
    esac
    echo x >>"$work/reads"
  done
}
a=$(printf '%3000s' "" | tr ' ' a)
b=$(printf '%700s' "" | tr ' ' b)
echo "$a" >"$mnt/shared"
touch "$work/bad" "$work/reads" "$work/writes"
overwrite a 3000 & pids=($!)
overwrite b 700 & pids+=($!)
watch_values & pids+=($!)
watch_values & pids+=($!)
sleep "$seconds"
many() { [ "$(wc -l <"$work/reads")" -gt 100 ] && [ "$(wc -l <"$work/writes")" -gt 100 ]; }
within 60 many
touch "$work/stop"
wait "${pids[@]}"
is "$(sort "$work/bad" | uniq -c | head -5)" "" \
  "no empty and no mixed read in $(wc -l <"$work/reads") reads beside $(wc -l <"$work/writes") writes, $seconds s"
passes "readers and writers both got on" many

append() { # NUMBER
  local i
  for ((i = 0; i < 1000; i++)); do echo "appender $1 line $i end" >>"$mnt/appended" || echo failed >>"$work/bad"; done
}
pids=()
for n in 1 2 3 4 5 6 7 8; do append "$n" & pids+=($!); done
wait "${pids[@]}"
is "$(wc -l <"$mnt/appended")" 8000 "8 appenders leave 8,000 lines"
is "$(grep -c -x 'appender [1-8] line [0-9]* end' "$mnt/appended")" 8000 "all of them whole"
is "$(sort -u "$mnt/appended" | wc -l)" 8000 "and different"
in_order=0
for n in 1 2 3 4 5 6 7 8; do
  grep "^appender $n " "$mnt/appended" | awk '{ print $4 }' | sort -c -n 2>/dev/null && in_order=$((in_order + 1))
done
is "$in_order" 8 "each appender's in order"

lost=0
for ((i = 0; i < 500; i++)); do
  : >"$mnt/truncated"
  echo "$i" >"$mnt/truncated"
  [ "$(cat "$mnt/truncated")" = "$i" ] || lost=$((lost + 1))
done
is "$lost" 0 ": > k; echo x > k leaves x, 500 times"

echo old >"$mnt/held"
exec 7<"$mnt/held"
echo new >"$mnt/held"
is "$?" 0 "a value that a reader holds open is replaced"
is "$(cat "$mnt/held")" new "others read the new one"
exec 7<&-

race() { # ROUND NUMBER
  set -C
  { echo "$2" >"$mnt/exclusive$1"; } 2>/dev/null && echo "$2" >>"$work/won$1"
  mkdir "$mnt/lock$1" 2>/dev/null && echo "$2" >>"$work/locked$1"
}
wrong=0
for ((round = 0; round < 20; round++)); do
  pids=()
  touch "$work/won$round" "$work/locked$round"
  for n in 1 2 3 4 5 6 7 8; do race "$round" "$n" & pids+=($!); done
  wait "${pids[@]}"
  [ "$(wc -l <"$work/won$round")" = 1 ] && [ "$(wc -l <"$work/locked$round")" = 1 ] &&
    [ "$(cat "$mnt/exclusive$round")" = "$(cat "$work/won$round")" ] || wrong=$((wrong + 1))
done
is "$wrong" 0 "of 8 who create a key or a directory exclusively one wins, 20 times"

counter() { # NUMBER: moves its own file over the shared one
  local i
  for ((i = 0; i < 100; i++)); do
    printf '%2000s\n' "$1" >"$mnt/tmp$1" && mv "$mnt/tmp$1" "$mnt/moved"
  done
}
printf '%2000s\n' 0 >"$mnt/moved"
rm -f "$work/stop"
: >"$work/bad"
check_moved() {
  while [ ! -e "$work/stop" ]; do
    [ "$(wc -c <"$mnt/moved")" = 2001 ] || echo "not whole" >>"$work/bad"
  done
}
check_moved & checker=$!
pids=()
for n in 1 2 3 4; do counter "$n" & pids+=($!); done
wait "${pids[@]}"
touch "$work/stop"
wait "$checker"
is "$(cat "$work/bad")" "" "readers of a name that others move over see whole files"
within 60 is_settled
agreement 3 "all owners hold the same rows"
finish
