#!/usr/bin/env bash
# Goal: after kill -9 of the daemon every acknowledged write is there, and nothing half-written.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
rounds=${CRASH_ROUNDS:-5}
mount_store || exit 1

# Writes values of 1 to 40 repeated lines; a value is acknowledged once its number is in the journal.
# The journal's line comes after the write returned success.
writer() { # NUMBER ROUND
  local n=0 value i
  while [ ! -e "$work/stop" ]; do
    n=$((n + 1))
    value=
    for ((i = 0; i < 1 + n % 40; i++)); do value+="writer $1 round $2 value $n"$'\n'; done
    printf '%s' "$value" 2>/dev/null >"$mnt/w$1-$((n % 7))" || return
    echo "$((n % 7)) $2 $n" >>"$work/journal$1"
  done
}

# The key holds all lines of one value, and not an older one than the last that was acknowledged.
check_key() { # WRITER SLOT
  local expected file=$mnt/w$1-$2 lines distinct round n
  expected=$(awk -v slot="$2" '$1 == slot { last = $2 " " $3 } END { print last }' "$work/journal$1")
  if [ ! -e "$file" ]; then
    [ -z "$expected" ] || diag "key w$1-$2 is gone, it was acknowledged as $expected"
    [ -z "$expected" ]
    return
  fi
  read -r _ _ _ round _ n < <(head -1 "$file")
  lines=$(wc -l <"$file")
  distinct=$(sort -u "$file" | wc -l)
  if [ "$distinct" -ne 1 ] || [ "$lines" -ne $((1 + n % 40)) ] || [ -n "$(tail -c 1 "$file")" ]; then
    diag "key w$1-$2 is torn: $lines lines, $distinct distinct"
    return 1
  fi
  [ -z "$expected" ] && return
  # shellcheck disable=SC2086
  set -- $expected "$1" "$2"
  if [ "$round" -lt "$1" ] || { [ "$round" -eq "$1" ] && [ "$n" -lt "$2" ]; }; then
    diag "key w$3-$4 holds round $round value $n, but round $1 value $2 was acknowledged"
    return 1
  fi
}

for ((round = 1; round <= rounds; round++)); do
  rm -f "$work/stop"
  writers=()
  for w in 1 2 3 4; do
    touch "$work/journal$w"
    writer "$w" "$round" &
    writers+=($!)
  done
  target=$(($(cat "$work"/journal? | wc -l) + 100 * round))
  enough() { [ "$(cat "$work"/journal? | wc -l)" -ge "$target" ]; }
  within 60 enough || diag "the writers are slow"
  kill_daemon
  touch "$work/stop"
  wait "${writers[@]}"
  mount_store || { not_ok "round $round: mounts again"; break; }
  bad=0
  for w in 1 2 3 4; do
    for ((slot = 0; slot < 7; slot++)); do check_key "$w" "$slot" || bad=$((bad + 1)); done
  done
  is "$bad" 0 "round $round: everything acknowledged is there and whole ($(cat "$work"/journal? | wc -l) writes)"
done
echo after >"$mnt/after"
is "$(cat "$mnt/after")" after "the store goes on writing"
within 60 is_settled
agreement 3 "all owners hold the same rows"
finish
