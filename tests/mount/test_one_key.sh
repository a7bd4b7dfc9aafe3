#!/usr/bin/env bash
# Goal: four writers and four readers of one key, values of 1 to 1,000,000 bytes by one write(2) each: no read is empty,
# mixed or stale; meanwhile, and without them, a get of a quiet key that is cached is a single request of the kernel.
# ONE_KEY_SECONDS=60: so long (15).
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
seconds=${ONE_KEY_SECONDS:-15}
mount_store || exit 1

# requests OPERATION: how many of these the kernel has sent.
requests() { sed -n "s/^quorumfs_fuse_requests_total{operation=\"$1\"} //p" "$work/metrics"; }
counted() { # sets $opens, $others and $asked: what 1,000 gets of the quiet key cost
  local before_opens before_others before_asked i
  look() {
    cat "$mnt/.quorumfs/metrics" >"$work/metrics"
    asked=$(sed -n 's/^quorumfs_gets_total //p' "$work/metrics")
    opens=$(requests open) others=$(($(requests read) + $(requests getattr) + $(requests lookup) + $(requests flush)))
  }
  look
  before_opens=$opens before_others=$others before_asked=$asked
  python3 - "$mnt/quiet" <<'END'
import sys
for i in range(1000):
    with open(sys.argv[1], "rb", buffering=0) as f:
        assert f.read() == b"quiet\n"
END
  look
  opens=$((opens - before_opens)) others=$((others - before_others)) asked=$((asked - before_asked))
}

echo quiet >"$mnt/quiet"
cat "$mnt/quiet" >/dev/null
counted
# Looking at the metrics is an open and some reads itself; so is starting python.
if [ "$opens" -ge 1000 ] && [ "$opens" -le 1005 ] && [ "$others" -le 40 ]; then
  ok "1,000 gets of a quiet key are 1,000 opens, and nothing else"
else
  not_ok "1,000 gets of a quiet key are 1,000 opens, and nothing else" "$opens opens, $others others"
fi

"${QUORUMFS%/*}/tests/mount/one_key" "$mnt/key" "$seconds" >"$work/result" 2>"$work/wrong" &
traffic=$!
passes "answered from memory: no replica was read for most of them ($asked were)" test "$asked" -lt 500
set_state 1 down
before=$(sed -n 's/^quorumfs_gets_total //p' "$mnt/.quorumfs/metrics")
cat "$mnt/quiet" >/dev/null
after=$(sed -n 's/^quorumfs_gets_total //p' "$mnt/.quorumfs/metrics")
passes "a node that goes or comes makes the next get ask again" test "$after" -gt "$before"
set_state 1 up
within 60 is_up 1

quiet_key_is_read() {
  local i
  for ((i = 0; i < 200; i++)); do [ "$(cat "$mnt/quiet")" = quiet ] || return 1; done
}
passes "a quiet key is read beside them" quiet_key_is_read
wait "$traffic"
status=$?
result=$(cat "$work/result")
is "$status" 0 "4 writers and 4 readers of one key, $seconds s: $result"
[ "$status" -eq 0 ] || diag "$(head -20 "$work/wrong")"
read -r writes _ reads _ <<<"$result"
passes "they got on" test "$writes" -gt 100 -a "$reads" -gt 100
counted
if [ "$opens" -ge 1000 ] && [ "$opens" -le 1005 ] && [ "$others" -le 40 ]; then
  ok "the quiet key is still one request a get"
else
  not_ok "the quiet key is still one request a get" "$opens opens, $others others"
fi
within 60 is_settled
agreement 3 "all owners hold the same rows"
finish
