#!/usr/bin/env bash
# Goal: under any partition keys with a quorum on the coordinator's side work, others fail clearly and soon; no
# stale value is read; after healing all owners hold the same.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-580}
. "$(dirname "$0")/../lib/tap.sh"
# Nodes silent for half of it are given up.
request_timeout_ms=3000
mount_store faults || exit 1
keys=40
limit_ms=$((2 * request_timeout_ms + 10000)) # who waits without a deadline waits longer

part() { "$QUORUMFS" partition "$mnt" "$1"; }
partition() { cat "$mnt/.quorumfs/partition"; }
round=0

# Tries every key; notes in $work/tried which writes were acknowledged ("+ key text") and how the others failed.
try_all() { # TEXT
  local i before elapsed all=()
  slowest=0 acknowledged=0
  for ((i = 0; i < keys; i++)); do
    before=$(now_ms)
    if (echo "$1 $i" >"$mnt/key$i") 2>>"$work/errors"; then
      acknowledged=$((acknowledged + 1))
      echo "$1 $i" >"$work/expected$i"
      rm -f "$work/perhaps$i"
    else
      echo "$1 $i" >>"$work/perhaps$i"
    fi
    elapsed=$(($(now_ms) - before))
    all+=("$elapsed")
    [ "$elapsed" -le "$slowest" ] || slowest=$elapsed
  done
  most=$(printf '%s\n' "${all[@]}" | sort -n | sed -n "$((keys * 9 / 10))p") # a pause of the machine hits few
}
# Whatever is read is the last acknowledged value, or one that failed later with an unknown outcome.
check_reads() {
  local i value before elapsed
  wrong=0 answered=0 slowest=0
  for ((i = 0; i < keys; i++)); do
    before=$(now_ms)
    if value=$(limited 60 cat "$mnt/key$i" 2>>"$work/errors"); then
      answered=$((answered + 1))
      [ "$value" = "$(cat "$work/expected$i")" ] || grep -qxF -- "$value" "$work/perhaps$i" 2>/dev/null || {
        wrong=$((wrong + 1))
        diag "key$i: '$value', not '$(cat "$work/expected$i")'"
      }
    fi
    elapsed=$(($(now_ms) - before))
    [ "$elapsed" -le "$slowest" ] || slowest=$elapsed
  done
}
all_up() { local i; for i in 1 2 3 4 5; do is_up "$i" || return 1; done; }
heal() { # NAME
  part heal
  if within 60 all_up; then ok "$1: all nodes return"; else not_ok "$1: all nodes return" "$(cat "$mnt/.quorumfs/status")"; fi
  passes "$1: settled" within 60 is_settled
  check_reads
  is "$answered $wrong" "$keys 0" "$1: every key reads as it was written"
  agreement 3 "$1: all owners hold the same rows"
}

passes "all keys are written" write_all first
for ((i = 0; i < keys; i++)); do echo "first $i" >"$work/expected$i"; done
within 60 is_settled
remember_owners
is "$(partition)" "1 2 3 4 5" "one group at first"

# A majority is with the coordinator: everything goes on.
majority_holds() { # GROUPS
  round=$((round + 1))
  passes "$1: made" part "$1"
  : >"$work/errors"
  try_all "round$round"
  is "$acknowledged" "$keys" "$1: every key is written (slowest: $slowest ms)"
  [ "$acknowledged" = "$keys" ] || diag "$(sort "$work/errors" | uniq -c | head)"
  check_reads
  is "$answered $wrong" "$keys 0" "$1: every key is read (slowest: $slowest ms)"
  heal "$1"
}
majority_holds '1 2 3 | 4 5'
majority_holds '1 3 4 5 | 2'
majority_holds '2 4 5 | 1 3'
majority_holds '1 2 3 | 4 | 5'
majority_holds '1>4'
majority_holds '4>1'
majority_holds '1>4 5>1'
majority_holds '1 2 4 5 | 3 1>5'

# Only a minority is: writes fail clearly, and nothing stale is read. Where two nodes answer, keys that both of them own
# have their majority until the silence of the others is known.
minority_fails() { # GROUPS [KEYS]: how many may be written at first
  round=$((round + 1))
  passes "$1: made" part "$1"
  : >"$work/errors"
  try_all "round$round"
  passes "$1: at first no more than ${2:-0} keys are written ($acknowledged)" test "$acknowledged" -le "${2:-0}"
  passes "$1: each fails by its deadline (slowest: $slowest ms)" test "$slowest" -lt "$limit_ms"
  is "$(grep -vcE 'Host is down|Connection timed out' "$work/errors")" 0 "$1: each fails with 'Host is down' or 'Connection timed out'"
  try_all "round$round again"
  is "$acknowledged" 0 "$1: still none"
  passes "$1: nine in ten fail within a second once that is known ($most ms, slowest: $slowest ms)" test "$most" -lt 1000
  check_reads
  is "$wrong" 0 "$1: nothing stale is read ($answered of $keys answered, slowest: $slowest ms)"
  passes "$1: each read ends by its deadline" test "$slowest" -lt "$limit_ms"
  passes "$1: the status says that there is no quorum" grep -q '^quorum *NO' "$mnt/.quorumfs/status"
  heal "$1"
}
minority_fails '1 2 | 3 4 5'
minority_fails '3 | 1 2 4 5'
minority_fails '1>2 1>3 1>4'
minority_fails '2>1 3>1 4>1 5>1'

# Any grouping, one-way cuts, slow and lossy links at once, drawn by lot. The coordinator is with the lowest of the first
# group; who it reaches in both directions counts.
seed=${SEED:-$RANDOM}
diag "seed $seed"
RANDOM=$seed
by_lot() {
  local node coordinator='' cuts='' good=0 first='' second='' third='' slow=0
  for node in 1 2 3 4 5; do
    case $((RANDOM % 6)) in
    0) second+=" $node" ;;
    1) third+=" $node" ;;
    *)
      first+=" $node"
      if [ -z "$coordinator" ]; then coordinator=$node good=1; continue; fi
      case $((RANDOM % 5)) in
      0) cuts+=" $coordinator>$node" ;;
      1) cuts+=" $node>$coordinator" ;;
      *)
        good=$((good + 1))
        # Slow but in time, and some loss: still of the quorum.
        if [ $((RANDOM % 3)) -eq 0 ]; then
          slow=1
          if [ $((RANDOM % 2)) -eq 0 ]; then echo 100 >"$mnt/.quorumfs/nodes/$node/delay"; else echo 0.1 >"$mnt/.quorumfs/nodes/$node/drop"; fi
        fi
        ;;
      esac
      ;;
    esac
  done
  groups=$first
  [ -z "$second" ] || groups+=" |$second"
  [ -z "$third" ] || groups+=" |$third"
  groups=${groups# }
  groups=${groups#| }
  [ -n "$coordinator" ] || { groups='1 2 3 4 5' good=5; }
  groups+=$cuts
  diag "by lot: '$groups', $good reachable, slow or lossy: $slow"
  if [ "$good" -ge 3 ]; then majority_holds "$groups"; else minority_fails "$groups" "$((good == 2 ? keys - 1 : 0))"; fi
  for node in 1 2 3 4 5; do
    echo 0 >"$mnt/.quorumfs/nodes/$node/delay"
    echo 0 >"$mnt/.quorumfs/nodes/$node/drop"
  done
}
keys=12
for ((lot = 0; lot < ${PARTITIONS:-8}; lot++)); do by_lot; done

# Changing partitions under writers, and views with them.
unmount_store
mount_store faults,timeout=2000 || exit 1
stop=$work/stop
writer() {
  local n=0
  while [ ! -e "$stop" ]; do
    n=$((n + 1))
    (echo "writer $1 value $n" >"$mnt/w$1") 2>/dev/null && echo "$n" >"$work/acked$1"
  done
}
for w in 1 2 3; do
  echo 0 >"$work/acked$w"
  echo "writer $w value 0" >"$mnt/w$w"
  writer "$w" &
  writers[w]=$!
done
for groups in '1 2 3 | 4 5' '1 4 5 | 2 3' '1 2 | 3 4 5' '1>2' heal '3>1 1>4' '1 3 5 | 2 4' heal; do
  part "$groups"
  sleep 0.7
done
touch "$stop"
wait "${writers[@]}"
within 60 all_up
within 60 is_settled
bad=0
for w in 1 2 3; do
  read -r _ _ _ n <"$mnt/w$w"
  [ "$n" -ge "$(cat "$work/acked$w")" ] || bad=$((bad + 1))
  diag "writer $w: $(cat "$work/acked$w") acknowledged last, $n is stored"
done
is "$bad" 0 "nothing acknowledged is lost while partitions come and go"
agreement 3 "all owners hold the same rows after that"
unmount_store
mount_store faults || exit 1

# What is no partition.
part '1 2 3 | 4 5'
for text in '1 2 3 | 4' '1 2 3 | 4 5 5' '1 2 3 | 4 6' '| 1 2 3 4 5' '1 2 3 4 5 |' '1>1' '1>' '1 > 9' 'healing' '1 2 3 4 5; 1>2' '1>2 | 3'; do
  fails_with 2 "partition: " "'$text' is refused" "$QUORUMFS" partition "$mnt" "$text"
  fails_with 1 "Invalid argument" "by the file, too" bash -c "echo '$text' >'$mnt/.quorumfs/partition'"
done
has "$(cat "$mnt/.quorumfs/last-error")" "nothing was changed" "with the reason in last-error"
is "$(partition)" "1 2 3 | 4 5" "and nothing was changed"
passes "what is printed can be written" bash -c "printf '1 2 3 | 4 5\n1>2 3>1\n' >'$mnt/.quorumfs/partition' && cat '$mnt/.quorumfs/partition' >'$work/text' && cat '$work/text' >'$mnt/.quorumfs/partition' && cat '$mnt/.quorumfs/partition' | cmp - '$work/text'"
is "$("$QUORUMFS" partition --json "$mnt")" '{"partition": "1 2 3 4 5\n1>2 3>1"}' "'partition --json' is JSON"
fails_with 2 "changes nothing" "and prints only" "$QUORUMFS" partition --json "$mnt" heal
heal "in the end"

# The commands.
is "$("$QUORUMFS" nodes "$mnt" | wc -l)" 6 "'nodes' prints a table"
passes "'nodes --json' is JSON of five nodes" bash -c "'$QUORUMFS' nodes --json '$mnt' | python3 -c 'import json,sys; assert [n[\"node\"] for n in json.load(sys.stdin)] == [1,2,3,4,5]'"
passes "'nodes' takes a node down" "$QUORUMFS" nodes "$mnt" 2 down
is "$(state 2)" down "it is down"
passes "and up" "$QUORUMFS" nodes "$mnt" 2 up
fails_with 2 "not one of" "another state is refused" "$QUORUMFS" nodes "$mnt" 2 sideways
fails_with 2 "no node 6" "there is no node 6" "$QUORUMFS" nodes "$mnt" 6 down
fails_with 2 "state is missing" "a state is needed" "$QUORUMFS" nodes "$mnt" 2
passes "'nodes --help'" "$QUORUMFS" nodes --help
passes "'partition --help'" "$QUORUMFS" partition --help
unmount_store
mount_store || exit 1
fails_with 1 "option 'faults'" "without the option the command says what is missing" "$QUORUMFS" partition "$mnt" '1 2 3 | 4 5'
fails_with 1 "Operation not permitted" "and the file refuses" bash -c "echo '1 2 3 | 4 5' >'$mnt/.quorumfs/partition'"
is "$(partition)" "1 2 3 4 5" "reading is allowed"
finish
