#!/usr/bin/env bash
# Goal: after each of hundreds of kills in the middle of traffic of every kind, all that was acknowledged is there, whole,
# and what was under way has either happened or not.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-$((600 + ${KILLS:-200} * 20))}
. "$(dirname "$0")/../lib/tap.sh"
rounds=${KILLS:-200}
# Long, so that a busy machine does not fail an operation.
options=timeout=60000
mount_store $options || exit 1
seed=${SEED:-$RANDOM}
RANDOM=$seed
start_traffic crash "$seed"

bad=0 operations=0
for ((round = 1; round <= rounds; round++)); do
  # Sometimes within the first operations, when the start of the daemon has just ended.
  disturb_nodes
  tell "round $daemon $((RANDOM % 4 == 0 ? RANDOM % 20 : 50 + RANDOM % 250))"
  [ -z "$disturber" ] || wait "$disturber"
  operations=$((operations + ${answer#* }))
  kill_daemon
  : >"$work/log"
  mount_store $options || { not_ok "mounts again after kill $round"; break; }
  tell verify
  [ "$answer" = "good 0" ] || { diag "kill $round: $answer; $(tail -30 "$work/log")"; bad=$((bad + 1)); }
  if [ $((round % 50)) -eq 0 ] || [ "$round" -eq "$rounds" ]; then
    is "$bad" 0 "after $round kills everything acknowledged was there ($operations operations)"
    within 60 is_settled
    agreement 3 "and all owners hold the same rows"
  fi
done
finish
