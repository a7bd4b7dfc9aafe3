#!/usr/bin/env bash
# Goal: the daemon stands still for longer than any request may take, as on a machine that is paused: when it goes on, no node is
# taken for silent, and no request fails.
. "$(dirname "$0")/../lib/tap.sh"
mount_store timeout=2000 || exit 1
passes "settled" within 60 is_settled

cat >"$work/writer.py" <<'END'
import os, sys
path, stop, done, errors = sys.argv[1:]
n = 0
with open(done, "w", buffering=1) as done, open(errors, "w", buffering=1) as errors:
    while not os.path.exists(stop):
        n += 1
        try:
            with open(path, "w") as file:
                file.write(str(n))
            with open(path) as file:
                if file.read() != str(n):
                    errors.write(f"{n}: another value was read\n")
        except OSError as error:
            errors.write(f"{n}: {error}\n")
        done.write(f"{n}\n")
END
: >"$work/done"
python3 "$work/writer.py" "$mnt/key" "$work/stop" "$work/done" "$work/errors" &
writer=$!
rounds() { wc -l <"$work/done"; }
went_on() { [ "$(rounds)" -ge $((before + 20)) ]; }
is_stopped() { grep -q '^State:.T' "/proc/$daemon/status"; }
for round in 1 2 3 4; do
  before=$(rounds)
  passes "$round: traffic" within 60 went_on
  kill -STOP "$daemon"
  within 10 is_stopped
  sleep 4 # the pause itself: two timeouts
  kill -CONT "$daemon"
  before=$(rounds)
  passes "$round: it goes on after the pause" within 60 went_on
done
: >"$work/stop"
wait "$writer"
is "$(cat "$work/errors")" "" "no request failed"
is "$(grep -vc '^quorumfs: \(quorum: writes are possible\|serving .*\)$' "$work/log")" 0 "and no node was given up"
is "$(grep -cE '^[1-5] +up +yes' "$mnt/.quorumfs/status")" 5 "all are up and in sync"
unmount_store
finish
