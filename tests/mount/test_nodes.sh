#!/usr/bin/env bash
# Goal: with any two of five nodes away every key reads and writes; without a quorum writes fail at once
# and nothing stale is read; whoever returns catches up, and in the end all owners hold the same.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1
keys=60

export keys

passes "all keys are written with five nodes" write_all first
is "$(state 1)" up "nodes are up"
within 60 is_settled
remember_owners
set_state 1 down
is "$? $(state 1)" "0 down" "a node is taken down"
passes "all keys read with one node down" read_all first
set_state 3 down
is "$? $(state 3)" "0 down" "and a second one"
passes "all keys read with two nodes down" read_all first
passes "all keys write with two nodes down" write_all second
passes "and read back" read_all second
passes "new keys too" bash -c "mkdir '$mnt/new' && echo x >'$mnt/new/k' && rm '$mnt/new/k' && rmdir '$mnt/new'"
within 60 is_settled
is "$(cd "$mnt" && "$QUORUMFS" status | head -1 | cut -d ' ' -f 1)" store "status of the mount that one is in"
passes "status is readable" grep -q '^quorum *yes' "$mnt/.quorumfs/status"

set_state 5 down
is "$?" 0 "a third node is taken down"
started=$(now_ms)
failed=0
for ((i = 0; i < keys; i++)); do
  limited 30 bash -c "echo third >'$mnt/key$i'" 2>/dev/null || failed=$((failed + 1))
done
elapsed=$(($(now_ms) - started))
is "$failed" "$keys" "then every write fails"
passes "each within a second (all: $elapsed ms)" test "$elapsed" -lt $((keys * 1000))
fails_with 1 "Host is down" "with 'Host is down' from a shell" bash -c "echo third >'$mnt/key0'"
fails_with 1 "Host is down" "from put" "$QUORUMFS" put "$mnt/key0" third
fails_with 1 "Host is down" "from rm" rm "$mnt/key0"
fails_with 1 "Host is down" "from mkdir" mkdir "$mnt/other"
fails_with 1 "Host is down" "from a new key" bash -c "echo third >'$mnt/fresh'"
wrong=0 read=0
for ((i = 0; i < keys; i++)); do
  if value=$(limited 30 cat "$mnt/key$i" 2>/dev/null); then
    read=$((read + 1))
    [ "$value" = "second $i" ] || wrong=$((wrong + 1))
  fi
done
is "$wrong" 0 "no read gives anything but the last acknowledged value"
passes "reads go on where an in-sync holder is up ($read of $keys)" test "$read" -ge 1
passes "status tells that there is no quorum" grep -q '^quorum *NO' "$mnt/.quorumfs/status"

set_state 2 down 2>/dev/null
set_state 4 down 2>/dev/null
passes "status is readable with all nodes down" grep -q '^quorum *NO' "$mnt/.quorumfs/status"
passes "by the command as well" "$QUORUMFS" status "$mnt"
passes "and as JSON" bash -c "'$QUORUMFS' status --json '$mnt' | python3 -m json.tool >/dev/null"
fails_with 1 "Host is down" "reads without any holder fail" cat "$mnt/key1"

for i in 1 2 3 4 5; do set_state "$i" up; done
for i in 1 2 3 4 5; do
  if within 60 is_up "$i"; then ok "node $i is up again"; else not_ok "node $i is up again" "$(state "$i")"; fi
done
passes "every key has its last acknowledged value" read_all second
passes "writes work again" write_all fourth
within 60 is_settled
agreement 3 "all owners hold the same rows"

set_state 2 crash
is "$? $(state 2)" "0 crashed" "a node crashes"
passes "all keys write without it" write_all fifth
set_state 4 crash
passes "and without another" write_all sixth
passes "and read" read_all sixth
set_state 2 up
set_state 4 up
within 60 is_up 2 && within 60 is_up 4
is "$(state 2) $(state 4)" "up up" "both catch up"
within 60 is_settled
agreement 3 "all owners hold the same rows again"
fails_with 1 "Invalid argument" "another word is refused" bash -c "echo sideways >'$mnt/.quorumfs/nodes/1/state'"
passes "up on a node that is up" bash -c "echo up >'$mnt/.quorumfs/nodes/1/state'"
fails_with 1 "No such file" "there is no node 6" cat "$mnt/.quorumfs/nodes/6/state"

set_state 1 down && set_state 2 down
passes "deletes work with two nodes down" bash -c "rm '$mnt'/key?"
set_state 1 up && set_state 2 up
within 60 is_up 1 && within 60 is_up 2
within 60 is_settled
is "$(find "$mnt" -maxdepth 1 -name 'key?' | wc -l)" 0 "deleted keys do not return with the nodes"
fails_with 1 "No such file" "not for cat either" cat "$mnt/key5"
unmount_store
mount_store || exit 1
is "$(ls "$mnt" | wc -l)" $((keys - 10)) "nor after a remount"

for i in 1 2; do set_state "$i" down; done
passes "all keys are written by three nodes" write_all fourth
for i in 1 2; do set_state "$i" up; done
for i in 3 5; do set_state "$i" down; done
passes "two are taken up and two others down at once, and all keys write" write_all fifth
passes "and read" read_all fifth
finish
