#!/usr/bin/env bash
# Goal: random operations on files give what a model in memory says, attribute by attribute and byte by byte: several
# programs at once, root and an ordinary user, across mounts, and with nodes that fail and return underneath.
# EXERCISE_SEEDS=N: that many seeds of each sort (12), of 1,000 operations; SEED=N: from that one on.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-560}
. "$(dirname "$0")/../lib/tap.sh"
seeds=${EXERCISE_SEEDS:-12}
seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
exercise=${QUORUMFS%/*}/tests/mount/exercise/exercise
chmod 755 "$work"
# Under load a node may be slow; that is not what is tested here.
mount_store allow_other,timeout=30000 || exit 1

# report NAME: of what was run with its output in $work/NAME.
report() {
  if grep -q 'no difference$' "$work/$1"; then ok "$1: $(tail -n 1 "$work/$1")"; else not_ok "$1" "$(cat -v "$work/$1")"; fi
}
run() { # NAME ARGUMENTS...
  local name=$1
  shift
  mkdir -p "$mnt/$name"
  "$exercise" --operations 1000 "$@" "$mnt/$name" >"$work/$name" 2>&1
}

# Files of a few chunks, of a few pages, and long ones; the last ones belong to an ordinary user.
run chunks --seed "$seed" --seeds "$seeds" &
run pages --seed $((seed + 1000)) --seeds "$seeds" --size 30000 &
run long --seed $((seed + 2000)) --seeds $((seeds / 4)) --size 3000000 &
mkdir "$mnt/user"
if [ "$(id -u)" -eq 0 ]; then
  cp "$exercise" "$work/exercise"
  chown 65534:65534 "$mnt/user"
  setpriv --reuid 65534 --regid 65534 --clear-groups "$work/exercise" --operations 1000 --seed $((seed + 3000)) \
    --seeds "$seeds" "$mnt/user" >"$work/user" 2>&1 &
fi
for job in $(jobs -p); do [ "$job" = "$watchdog" ] || [ "$job" = "$daemon" ] || wait "$job"; done
for name in chunks pages long; do report "$name"; done
if [ "$(id -u)" -eq 0 ]; then report user; else skip user "only root can become somebody else"; fi

# The daemon is another one each time; its process is noted for the trap that ends it.
cat >"$work/remount" <<END
#!/usr/bin/env bash
"$QUORUMFS" umount "$mnt" && "$QUORUMFS" mount -o store="$store",timeout=30000 "$mnt" >/dev/null || exit 1
sed -n 's/^  "pid" : \([0-9]*\),*$/\1/p' "$mnt/.quorumfs/status.json" >>"$work/pids"
END
chmod 755 "$work/remount"
# Seeds that found something.
for known in 410107; do
  run "known-$known" --seed "$known"
  report "known-$known"
done

run mounts --seed $((seed + 4000)) --seeds $((seeds / 2)) --remount "$work/remount"
report mounts

run faults --seed $((seed + 5000)) --seeds "$seeds" --faults "$mnt"
report faults
within 30 is_settled
agreement 3 "all owners hold the same rows"
finish
