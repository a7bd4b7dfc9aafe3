# shellcheck shell=bash
# tap.sh - sourced by the mount tests: test points in TAP, and a store mounted in a temporary directory.
#
#   . "$(dirname "$0")/../lib/tap.sh"
#   mount_store nodes=3
#   is "$(cat "$mnt/k")" v "a value is read back"
#   finish
#
# Whatever happens, the exit trap ends the daemons started here, by process id, and unmounts; a
# watchdog does the same when the test hangs in the mount.

set -u
export LC_ALL=C.UTF-8
top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
QUORUMFS=${QUORUMFS:-$top/build/quorumfs}
[ -x "$QUORUMFS" ] || {
  echo "Bail out! $QUORUMFS is not there: build it, or name it in QUORUMFS"
  exit 1
}
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-600}

work=$(mktemp -d "${TMPDIR:-/tmp}/quorumfs-test-XXXXXX")
mnt=$work/mnt
store=$work/store
mkdir "$mnt"
points=0
failures=0

diag() { printf '%s\n' "$*" | sed 's/^/# /'; }

ok() {
  points=$((points + 1))
  printf 'ok %d - %s\n' "$points" "$1"
}

not_ok() {
  points=$((points + 1))
  failures=$((failures + 1))
  printf 'not ok %d - %s\n' "$points" "$1"
  [ $# -lt 2 ] || diag "$2"
}

skip() {
  points=$((points + 1))
  printf 'ok %d - %s # SKIP %s\n' "$points" "$1" "$2"
}

# is GOT EXPECTED NAME
is() {
  if [ "$1" = "$2" ]; then ok "$3"; else not_ok "$3" "got      '${1:0:2000}'
expected '${2:0:2000}'"; fi
}

# has TEXT PART NAME
has() {
  case $1 in
  *"$2"*) ok "$3" ;;
  *) not_ok "$3" "'$2' is not in '${1:0:2000}'" ;;
  esac
}

# passes NAME COMMAND...: exits 0, within 90 s.
passes() {
  local name=$1 output status=0
  shift
  output=$(limited 90 "$@" 2>&1) || status=$?
  if [ "$status" -eq 0 ]; then ok "$name"; else not_ok "$name" "$* -> $status: ${output:0:2000}"; fi
}

# fails_with STATUS PART NAME COMMAND...: exits so, says PART in one line on standard error.
fails_with() {
  local expected=$1 part=$2 name=$3 output status=0
  shift 3
  output=$(limited 90 "$@" 2>&1 >/dev/null) || status=$?
  if [ "$status" -eq "$expected" ] && [[ $output == *"$part"* ]] && [[ $output != *$'\n'* ]]; then
    ok "$name"
  else
    not_ok "$name" "$* -> $status (expected $expected, '$part' in one line): ${output:0:2000}"
  fi
}

# limited SECONDS COMMAND...: the command may be a function of the test.
limited() {
  local seconds=$1
  shift
  if [ "$(type -t "$1")" = function ]; then
    export mnt store work QUORUMFS
    timeout -k 5 "$seconds" bash -c "$(declare -f)"$'\n"$@"' bash "$@"
  else
    timeout -k 5 "$seconds" "$@"
  fi
}

# within SECONDS COMMAND...: polls until the command succeeds. A machine may stand still for seconds: a minute costs nothing
# where all is well.
within() {
  local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "${EPOCHREALTIME/[.,]/}" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

is_mounted() { grep -qF " ${1:-$mnt} " /proc/self/mountinfo; }

# Our daemon, or the shell that is about to become it.
alive() {
  case $(cat "/proc/$1/comm" 2>/dev/null) in quorumfs | bash) ;; *) return 1 ;; esac
  ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}
dead() { ! alive "$1"; }

# mount_store [OPTIONS]: mounts $store on $mnt, in the foreground of a process of ours; its pid: $daemon. A test that is not about
# deadlines sets request_timeout_ms, so that a machine that stands still for seconds fails no request and no node.
mount_store() {
  local options=store=$store${request_timeout_ms:+,timeout=$request_timeout_ms}${1:+,$1}
  : >"$work/out"
  "$QUORUMFS" mount -f -o "$options" "$mnt" >"$work/out" 2>>"$work/log" 9>&- &
  daemon=$!
  echo "$daemon" >>"$work/pids"
  within 120 serves_or_died
  serves && return
  diag "the daemon does not serve: $(tail -5 "$work/log")"
  return 1
}

serves_or_died() { serves || dead "$daemon"; }

serves() {
  grep -q '^mounted' "$work/out" && timeout 30 cat "$mnt/.quorumfs/status" >/dev/null
}

# Ends the daemon as an administrator would, and waits for it.
unmount_store() {
  kill -TERM "$daemon" 2>/dev/null
  within 60 dead "$daemon" || diag "the daemon $daemon does not end on SIGTERM"
  wait "$daemon" 2>/dev/null
  within 60 not is_mounted || diag "still mounted"
}

not() { ! "$@"; }

kill_daemon() {
  kill -KILL "$daemon" 2>/dev/null
  wait "$daemon" 2>/dev/null
}

clean_up() {
  local pid
  [ -z "${watchdog-}" ] || kill "$watchdog" 2>/dev/null
  if [ -e "$work/pids" ]; then
    while read -r pid; do
      if alive "$pid"; then kill -TERM "$pid" 2>/dev/null; fi
    done <"$work/pids"
    while read -r pid; do
      within 30 dead "$pid" || kill -KILL "$pid" 2>/dev/null
    done <"$work/pids"
  fi
  while read -r mounted; do
    umount -l "$mounted" 2>/dev/null || fusermount3 -u -z "$mounted" 2>/dev/null
  done < <(awk -v work="$work/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo)
  rm -rf --one-file-system "$work"
}

on_exit() {
  local status=$?
  trap - EXIT
  if [ "${finished-}" != yes ]; then
    diag "ended early with status $status"
    [ ! -e "$work/log" ] || diag "$(tail -20 "$work/log")"
    status=1
  fi
  clean_up
  exit "$status"
}

finish() {
  # Built with a sanitizer, a daemon must end without a word of it.
  if [ -n "${daemon-}" ] && alive "$daemon"; then unmount_store; fi
  if [ -e "$work/log" ] && grep -qE 'Sanitizer|runtime error:|CRITICAL' "$work/log"; then
    not_ok "the sanitizers are silent" "$(grep -E -A15 'Sanitizer|runtime error:|CRITICAL' "$work/log" | head -60)"
  fi
  finished=yes
  printf '1..%d\n' "$points"
  if [ "$failures" -gt 0 ]; then
    [ ! -e "$work/log" ] || diag "log: $(tail -30 "$work/log")"
    exit 1
  fi
  exit 0
}

# A test that hangs in the mount cannot run its trap: killing the daemon sets it free.
watch_for_hangs() {
  sleep "$WATCHDOG_SECONDS" &
  local sleeper=$!
  trap 'kill "$sleeper" 2>/dev/null; exit 0' TERM
  wait "$sleeper"
  echo "# the test hangs: killing its daemons"
  while read -r pid; do
    if alive "$pid"; then kill -KILL "$pid" 2>/dev/null; fi
  done <"$work/pids"
  kill -TERM "$$"
}

trap on_exit EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
watch_for_hangs >&2 &
watchdog=$!

# preload LIBRARY NAME=VALUE...: from now on the daemon, and nothing else, runs with tests/lib/LIBRARY and these variables.
preload() {
  local shim=${QUORUMFS%/*}/tests/lib/$1 real=$QUORUMFS
  shift
  [ -e "$shim" ] || { echo "Bail out! $shim is not there"; exit 1; }
  mkdir "$work/bin"
  cat >"$work/bin/quorumfs" <<END
#!/bin/bash
[ "\$1" != mount ] || export LD_PRELOAD=$shim $*
ASAN_OPTIONS=verify_asan_link_order=0:\$ASAN_OPTIONS exec $real "\$@"
END
  chmod +x "$work/bin/quorumfs"
  QUORUMFS=$work/bin/quorumfs
}

# Writes "TEXT I" to each of $keys keys, key0 and so on; do they all read so?
write_all() { # TEXT
  local i
  for ((i = 0; i < keys; i++)); do echo "$1 $i" >"$mnt/key$i" || return 1; done
}
read_all() { # TEXT
  local i
  for ((i = 0; i < keys; i++)); do [ "$(cat "$mnt/key$i")" = "$1 $i" ] || return 1; done
}

# What was put lately waits in front of a replica's tables (storage/front.h) until it is settled.
wait_for_tables() {
  [ ! -e "$mnt/.quorumfs/status.json" ] || within 20 is_settled || true
}

# sql NODE QUERY: what a replica's tables say, one row a line.
sql() {
  case $2 in *record*) wait_for_tables ;; esac
  sqlite3 -readonly -cmd '.timeout 60000' "$store/node-$1/replica.db" "$2"
}

# holders KEY KIND: how many of the replicas hold a record of this kind (0 tombstone, 1 value).
holders() {
  local node count=0 dir=
  wait_for_tables
  case $1 in */*) dir=${1%/*} ;; esac
  for node in "$store"/node-*; do
    count=$((count + $(sqlite3 -readonly -cmd '.timeout 60000' "$node/replica.db" \
      "select count(*) from record where dir = '$dir' and name = '${1##*/}' and kind = $2")))
  done
  echo "$count"
}

state() { cat "$mnt/.quorumfs/nodes/$1/state"; }
set_state() { echo "$2" >"$mnt/.quorumfs/nodes/$1/state"; }
is_up() { [ "$(state "$1")" = up ]; }

# status_number NAME: of status.json.
status_number() { sed -n "s/^  \"$1\" : \([0-9]*\),*$/\1/p" "$mnt/.quorumfs/status.json"; }
is_settled() { [ "$(status_number unsettled)" = 0 ]; }

# Every record that a replica holds: its key, its timestamp, and all else that owners must agree on.
rows() {
  sql "$1" "select hex(dir) || '/' || hex(name), printf('%020u', timestamp),
              kind || ' ' || mode || ' ' || uid || ' ' || gid || ' ' || size || ' ' || digest || ' ' ||
              object_placement || ' ' || object_unique || ' ' || hex(data)
            from record where substr(dir, 1, 1) <> '/'"
}

# Notes who owns each key; to be called while all nodes are up and none was ever away.
remember_owners() {
  local node
  for node in "$store"/node-*; do
    sql "${node##*-}" "select hex(dir) || '/' || hex(name) || ' ${node##*-}' from record
                       where substr(dir, 1, 1) <> '/'"
  done >"$work/owners"
}

# Of every key at least K replicas, and all owners that were noted, hold the same newest version. What
# is wrong is in $work/disagree.
replicas_agree() { # K
  local node
  touch "$work/owners"
  (
    set -o pipefail
    for node in "$store"/node-*; do
      rows "${node##*-}" | sed "s/^/${node##*-}|/" || exit 1
    done | LC_ALL=C sort -t '|' -k2,2 -k3,3r >"$work/rows"
  ) || { echo "a replica cannot be read" >"$work/disagree"; return 1; }
  [ -s "$work/rows" ] || { echo "no replica holds a row" >"$work/disagree"; return 1; }
  awk -F '|' -v k="$1" -v owners="$work/owners" '
    function check(   i) {
      if (key == "") return
      for (i = 1; i <= 64; i++)
        if ((key, i) in owner && !(i in holds)) { print key " owner " i " lacks " newest; bad = 1 }
      if (count < k) { print key " only " count " hold " newest; bad = 1 }
    }
    BEGIN { while ((getline line < owners) > 0) { split(line, part, " "); owner[part[1], part[2]] = 1 } }
    $2 != key { check(); key = $2; newest = $3 " " $4; count = 0; delete holds }
    $3 " " $4 == newest { count++; holds[$1] = 1 }
    $3 == substr(newest, 1, 20) && $3 " " $4 != newest { print key " differs on " $1; bad = 1 }
    END { check(); exit bad }' "$work/rows" >"$work/disagree"
}

# agreement K NAME: waits until replicas_agree.
agreement() {
  if within 60 replicas_agree "$1"; then ok "$2"; else not_ok "$2" "$(cut -c1-300 "$work/disagree" | head -20)"; fi
}

# start_traffic MODE SEED: writers of all kinds (tests/lib/traffic.py) in $mnt; then `tell COMMAND` sets $answer.
start_traffic() {
  exec {traffic_err}>&1
  coproc TRAFFIC { exec python3 "$top/tests/lib/traffic.py" "$mnt" "$1" "$2" 2>&"$traffic_err"; }
  traffic_in=${TRAFFIC[1]} traffic_out=${TRAFFIC[0]}
  # shellcheck disable=SC2153
  traffic_pid=$TRAFFIC_PID
  diag "traffic: $1, seed $2"
  tell prepare
}
stop_traffic() {
  exec {traffic_in}>&-
  wait "$traffic_pid"
}
# shellcheck disable=SC2034
tell() {
  echo "$1" >&"$traffic_in"
  read -r answer <&"$traffic_out" || { not_ok "the traffic goes on after: $1"; exit 1; }
}

# Now and then, when all five are in sync, a node or two leave, or return in the middle of what follows;
# `wait "$disturber"` when it is over.
# shellcheck disable=SC2034
disturb_nodes() {
  local node=$((1 + RANDOM % 5))
  disturber=
  [ "$(grep -cE '^[1-5] +up +yes' "$mnt/.quorumfs/status")" -eq 5 ] || return 0
  case $((RANDOM % 6)) in
  0) set_state "$node" down ;;
  1) set_state "$node" down && set_state $((1 + node % 5)) down ;;
  2) set_state "$node" crash ;;
  3)
    # Back while writers are at work.
    set_state "$node" crash
    { sleep "0.$((RANDOM % 3))" && set_state "$node" up; } 2>/dev/null &
    disturber=$!
    ;;
  esac
}
