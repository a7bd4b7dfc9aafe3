#!/usr/bin/env bash
# Goal: nodes that are lost for good are given up by command: what waited for them goes on, and whoever was given up
# returns empty, whatever its files say.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store faults || exit 1
keys=60

# How many keys read as one of the texts, are refused, or read as anything else.
count_reads() { # TEXT...
  local i value text hit
  good=0 refused=0 wrong=0
  for ((i = 0; i < keys; i++)); do
    if ! value=$(limited 60 cat "$mnt/key$i" 2>/dev/null); then
      refused=$((refused + 1))
      continue
    fi
    hit=
    for text in "$@"; do [ "$value" = "$text $i" ] && hit=yes; done
    if [ "$hit" ]; then good=$((good + 1)); else wrong=$((wrong + 1)); fi
  done
}
export keys

passes "all keys are written" write_all first
within 60 is_settled
remember_owners
fails_with 1 "in use; take it down first" "a node that is up is not evicted" "$QUORUMFS" nodes "$mnt" 2 evict
fails_with 1 "Device or resource busy" "nor through its file" bash -c "echo evict >'$mnt/.quorumfs/nodes/2/state'"
is "$(state 2)" up "it stays up"

# Two of five directories lost at once, with writes that are not settled, as another node is slow to get them.
echo 10000 >"$mnt/.quorumfs/nodes/5/delay"
passes "all keys are written again" write_all second
kill_daemon
rm -rf "$store/node-1" "$store/node-2"
mount_store || exit 1
count_reads second
passes "keys whose newest version may be lost are refused ($refused)" test "$refused" -ge 1
is "$wrong $((good + refused))" "0 $keys" "the others read right"
before=$refused
passes "the first one is evicted" "$QUORUMFS" nodes "$mnt" 1 evict
is "$(state 1)" evicted "its state"
count_reads second
is "$refused" "$before" "the other one may still return: its keys stay refused"
passes "the second one is evicted" "$QUORUMFS" nodes "$mnt" 2 evict
count_reads first second
is "$good $refused $wrong" "$keys 0 0" "then every key reads"
passes "and writes" write_all third
has "$("$QUORUMFS" nodes "$mnt")" evicted "nodes shows it"
set_state 1 up
set_state 2 up
if within 60 is_up 1 && within 60 is_up 2; then ok "both return"; else not_ok "both return" "$(state 1) $(state 2)"; fi
within 60 is_settled
agreement 3 "all owners hold the same rows"
set_state 3 down && set_state 4 down
count_reads third
is "$good" "$keys" "and any two others may be down"
set_state 3 up && set_state 4 up
within 60 is_up 3 && within 60 is_up 4
within 60 is_settled

# Tombstones need not wait for a node that is given up.
set_state 5 down
cp -a "$store/node-5" "$work/copy"
passes "keys are deleted with a node down" bash -c "rm '$mnt'/key*"
within 60 is_settled
fails_with 1 "node 5" "collecting waits for it" "$QUORUMFS" gc "$mnt"
passes "it is evicted" "$QUORUMFS" nodes "$mnt" 5 evict
within 60 bash -c "[ \"\$(sed -n 's/^  \"gc_running\" : \\([a-z]*\\),*\$/\\1/p' '$mnt/.quorumfs/status.json')\" = false ]"
passes "collecting goes on" "$QUORUMFS" gc "$mnt"
left=0
for node in 1 2 3 4; do left=$((left + $(sql "$node" "select count(*) from record where kind = 0"))); done
is "$left" 0 "no tombstone is left"
rm -rf "$store/node-5" && cp -a "$work/copy" "$store/node-5"
unmount_store
mount_store || exit 1
if within 60 is_up 5; then ok "with its old files it returns at the next mount"; else not_ok "it returns" "$(state 5)"; fi
within 60 is_settled
is "$(find "$mnt" -mindepth 1 | wc -l)" 0 "nothing comes back"
set_state 1 down && set_state 2 down
is "$(find "$mnt" -mindepth 1 | wc -l)" 0 "not with others down either"
fails_with 1 "No such file" "not for cat" cat "$mnt/key7"
set_state 3 down && set_state 4 down && set_state 5 down
fails_with 1 "no other node that has data is up" "the last one is not evicted" "$QUORUMFS" nodes "$mnt" 5 evict
is "$(state 5)" down "it stays down"

# A majority of the directories is lost: the others cannot start by themselves.
for i in 1 2 3 4 5; do set_state "$i" up; done
for i in 1 2 3 4 5; do within 60 is_up "$i"; done
passes "keys are written once more" write_all fourth
head -c 300000 /dev/urandom >"$work/big"
big_all() {
  local i
  for ((i = 0; i < 30; i++)); do cp "$work/big" "$mnt/new$i" && mv "$mnt/new$i" "$mnt/big$i" || return 1; done
}
passes "large ones, too" big_all
within 60 is_settled
unmount_store
rm -rf "$store/node-1" "$store/node-2" "$store/node-3"
mount_store || exit 1
fails_with 1 "Host is down" "nothing is read" cat "$mnt/key1"
for i in 1 2 3; do passes "node $i is evicted" "$QUORUMFS" nodes "$mnt" "$i" evict; done
fails_with 1 "Host is down" "two of five are no majority for writes" bash -c "echo x >'$mnt/key1'"
for i in 1 2 3; do set_state "$i" up; done
for i in 1 2 3; do
  if within 60 is_up "$i"; then ok "node $i returns empty"; else not_ok "node $i returns empty" "$(state "$i")"; fi
done
within 60 is_settled
absent=0 wrong=0
for ((i = 0; i < keys; i++)); do
  if value=$(limited 60 cat "$mnt/key$i" 2>"$work/err"); then
    [ "$value" = "fourth $i" ] || wrong=$((wrong + 1))
  elif grep -q "No such file" "$work/err"; then
    absent=$((absent + 1))
  else
    wrong=$((wrong + 1))
  fi
done
big=0
for ((i = 0; i < 30; i++)); do
  if limited 60 cat "$mnt/big$i" >"$work/got" 2>"$work/err"; then
    cmp -s "$work/big" "$work/got" || wrong=$((wrong + 1))
  elif grep -q "No such file" "$work/err"; then
    big=$((big + 1))
  else
    wrong=$((wrong + 1))
  fi
done
is "$wrong" 0 "every key that is left has its value"
passes "few are lost: $absent of $keys, $big of 30 large ones" test "$absent" -lt 20 -a "$big" -lt 12
lost_told() { [ "$(status_number lost_values)" -ge 1 ] && grep -q 'big[0-9]*: its value was only at evicted nodes' "$work/log"; }
passes "values whose data is lost are removed, counted and named in the log" within 60 lost_told
passes "some are" test $((absent + big)) -ge 1
passes "and all can be written" write_all fifth
within 60 is_settled
set_state 4 down && set_state 5 down
count_reads fifth
is "$good" "$keys" "they are on the new nodes"
finish
