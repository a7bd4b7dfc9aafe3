#!/usr/bin/env bash
# Goal: node directories that are replaced by new ones, one after another, are rebuilt, once each, and no key is
# lost although in the end a majority of the nodes is new.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
keys=30
mount_store || exit 1
for ((i = 0; i < keys; i++)); do echo "value $i" >"$mnt/k$i"; done

all_in_sync() { [ "$(grep -cE '^[1-5] +up +yes' "$mnt/.quorumfs/status")" -eq 5 ]; }
whole() {
  local i
  for ((i = 0; i < keys; i++)); do [ "$(cat "$mnt/k$i")" = "value $i" ] || return 1; done
}

rebuilds() { grep -c 'is rebuilt from its peers' "$work/log"; }

for node in 1 2 3; do
  unmount_store
  mv "$store/node-$node" "$work/old-$node"
  mount_store || exit 1
  passes "node $node with a new directory is rebuilt" within 60 all_in_sync
  passes "all keys are there" whole
  unmount_store
  before=$(rebuilds)
  mount_store || exit 1
  passes "at the next mount all are in sync" within 60 all_in_sync
  is "$(rebuilds)" "$before" "and nothing is rebuilt"
done
echo 1 >"$mnt/after"
is "$(cat "$mnt/after")" 1 "and writes go on"
finish
