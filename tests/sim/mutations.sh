#!/usr/bin/env bash
# mutations.sh - does the simulator notice when a rule of the store is broken? See usage below.
#
# mutations/NAME.patch breaks one rule; its first line says which, in words. Each is applied to a copy of the
# files that it changes, compiled and linked as the simulator itself is (the commands are ninja's), and run
# until a seed fails. The second line may be a hint, "# hint: SEED OPTION...": a seed that caught it when
# somebody last ran --hints. Hints only save time: when the code has changed that seed may catch nothing, and the
# search begins at seed 1 with the same options. Before any seed the scenarios that are written out are run (sim --directed).
set -u

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
build=${QFS_BUILD:-$top/build}
patches=$top/tests/sim/mutations
seeds=1500
jobs=$(nproc)
tap='' list='' built='' hints=''
only=()

usage() {
  cat <<END
Usage: tests/sim/mutations.sh [--seeds N] [--only NAME]... [--jobs J] [--hints] [--built] [--tap]
                              [--list] [--help]

Breaks the rules of cluster/ and storage/ on purpose, one at a time (tests/sim/mutations/*.patch),
and runs the simulator on each until something fails that passes without the mutation: a scenario that is
written out (sim --directed), or one of at most N seeds (default $seeds) of survivable faults and as many of unlimited ones (a fifth of that on SQLite, for
mutations of storage/). Prints a line for each with the seed and the check that caught it; the last line
is "N mutations, M caught". J of them run at a time. --hints notes the seeds in the patches, --built takes
the simulator in \$QFS_BUILD (default build/) as it is.

Exit status: 0 all were caught, 1 not, 2 a mutation does not apply or build, or wrong usage.
END
}

while [ $# -gt 0 ]; do
  case $1 in
  -h | --help)
    usage
    exit 0
    ;;
  --tap) tap=yes ;;
  --list) list=yes ;;
  --built) built=yes ;;
  --hints) hints=yes ;;
  --seeds | --jobs | --only)
    if [ -z "${2-}" ]; then
      echo "mutations.sh: $1 needs a value" >&2
      exit 2
    fi
    case $1 in
    --seeds) seeds=$2 ;;
    --jobs) jobs=$2 ;;
    --only) only+=("$2") ;;
    esac
    shift
    ;;
  *)
    echo "mutations.sh: unknown argument '$1'; see --help" >&2
    exit 2
    ;;
  esac
  shift
done

words_of() { sed -n '1s/^# //p' "$patches/$1.patch"; }
hint_of() { sed -n '2s/^# hint: //p' "$patches/$1.patch"; }
files_of() { sed -n 's,^--- a/,,p' "$patches/$1.patch"; }

names=()
if [ "${#only[@]}" -gt 0 ]; then
  for name in "${only[@]}"; do
    if [ ! -f "$patches/$name.patch" ]; then
      echo "mutations.sh: there is no mutation '$name'" >&2
      exit 2
    fi
    names+=("$name")
  done
else
  for path in "$patches"/*.patch; do names+=("$(basename "$path" .patch)"); done
fi
if [ -n "$list" ]; then
  for name in "${names[@]}"; do printf '%-28s %s\n' "$name" "$(words_of "$name")"; done
  exit 0
fi

if [ -z "$built" ]; then
  [ -f "$build/build.ninja" ] || meson setup --buildtype=release "$build" "$top" >&2 || exit 2
  if ! log=$(ninja -C "$build" tests/sim/sim 2>&1); then
    printf '%s\n' "$log" >&2
    exit 2
  fi
fi
unchanged=$build/tests/sim/sim
if ! "$unchanged" --directed >/dev/null 2>&1; then
  echo "mutations.sh: the scenarios of $unchanged fail without any mutation" >&2
  exit 2
fi
commands=$(ninja -C "$build" -t commands tests/sim/sim) || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' INT TERM

# build_mutant NAME: the simulator with the mutation in it, at $work/NAME/sim. The objects of changed files come
# before the archives, which are then not asked for them.
build_mutant() {
  local dir=$work/$1 file command objects=''
  for file in $(files_of "$1"); do
    mkdir -p "$dir/$(dirname "$file")" && cp "$top/$file" "$dir/$file" || return 1
  done
  patch -s -p1 -d "$dir" --fuzz=1 <"$patches/$1.patch" || return 1
  for file in $(files_of "$1"); do
    command=$(grep -E -- " -c [^ ]*/?$file\$" <<<"$commands") || return 1
    command=$(sed -E "s, -M(D|[QF] [^ ]+),,g; s, -o [^ ]+ -c [^ ]+\$, -w -O1 -g0 -o $dir/$file.o -c $dir/$file," \
      <<<"$command")
    (cd "$build" && eval "$command") || return 1
    objects+=" $dir/$file.o"
  done
  command=$(tail -n 1 <<<"$commands" | sed -E "s,^(.*) -o tests/sim/sim ,\1 -o $dir/sim$objects ,")
  (cd "$build" && eval "$command")
}

# try NAME START N OPTION...: prints "SEED OPTION...: CHECK" of a seed that fails, but not without the mutation.
try() {
  local name=$1 start=$2 end=$(($2 + $3)) failure seed
  shift 3
  while [ "$start" -lt "$end" ]; do
    failure=$("$work/$name/sim" --until-failure --tail 0 --timeout 10 --jobs 1 --start "$start" \
      --seeds $((end - start)) "$@" 2>&1 | sed -n '/^# seed [0-9]* FAILED/,/^# replay/p')
    seed=$(sed -n 's/^# seed \([0-9]*\) FAILED.*/\1/p;T;q' <<<"$failure")
    [ -n "$seed" ] || return 1
    if "$unchanged" --tail 0 --start "$seed" --seeds 1 "$@" >/dev/null 2>&1; then
      printf '%s: %s\n' "$seed${*:+ $*}" "$(grep -v -e '^# replay' -e '^Bail out' <<<"$failure" |
        sed 's/^# seed [0-9]* FAILED: //' | cut -c 1-200 | paste -s -d ' ')"
      return 0
    fi
    start=$((seed + 1))
  done
  return 1
}

# directed NAME: prints which scenario fails, and how. They pass without the mutation: checked at the beginning.
directed() {
  local out
  out=$(timeout 60 "$work/$1/sim" --directed --tap directed 2>&1) && return 1
  printf '%s: %s\n' "$(sed -n 's,^# Start of \([a-z]*\) tests,scenario \1,p' <<<"$out" | tail -n 1)" \
    "$(grep -m 1 -o -E 'assertion failed.*|ERROR:.*' <<<"$out" | cut -c 1-160)"
}

# catch NAME: as try, by the hint or by searching: where the hint was, then everywhere.
catch() {
  local name=$1 n=$seeds first=60 storage=() hint
  if directed "$name"; then return 0; fi
  # Mutations of the SQLite replica do not show with the storage model.
  if files_of "$name" | grep -q '^storage/' && ! files_of "$name" | grep -q '^storage/record.c'; then
    storage=(--storage sqlite)
    n=$((seeds / 5)) first=20
  fi
  [ "$first" -lt "$n" ] || first=$n
  read -ra hint < <(hint_of "$name")
  if [ "${#hint[@]}" -gt 0 ] && { try "$name" "${hint[0]}" 1 "${hint[@]:1}" ||
    try "$name" 1 "$n" "${hint[@]:1}"; }; then return 0; fi
  try "$name" 1 "$first" "${storage[@]}" || try "$name" 1 "$first" --unlimited "${storage[@]}" ||
    try "$name" $((first + 1)) $((n - first)) "${storage[@]}" ||
    try "$name" $((first + 1)) $((n - first)) --unlimited "${storage[@]}"
}

# Leaves in $work: NAME.how (caught), NAME.missed or NAME.broken.
handle() {
  local name=$1
  if ! build_mutant "$name" >"$work/$name.log" 2>&1; then
    mv "$work/$name.log" "$work/$name.broken"
  elif catch "$name" >"$work/$name.found"; then
    mv "$work/$name.found" "$work/$name.how"
  else
    mv "$work/$name.found" "$work/$name.missed"
  fi
  rm -rf "${work:?}/$name"
}

note_hint() {
  local hint
  hint="# hint: ${2%%:*}"
  sed -i -e '2{/^# hint: /d}' "$patches/$1.patch"
  sed -i -e "1a $hint" "$patches/$1.patch"
}

done_n=0 caught=0 broken=0
report_finished() {
  local name how
  for name in "${names[@]}"; do
    [ -z "${reported[$name]-}" ] || continue
    if [ -e "$work/$name.how" ]; then
      how=$(<"$work/$name.how")
      case ${hints:-no}-$how in
      no-* | *-scenario*) ;;
      *) note_hint "$name" "$how" ;;
      esac
      caught=$((caught + 1)) done_n=$((done_n + 1))
      case $how in scenario*) ;; *) how="seed $how" ;; esac
      if [ -n "$tap" ]; then echo "ok $done_n - $name: $how"; else echo "$name: $how"; fi
    elif [ -e "$work/$name.missed" ]; then
      done_n=$((done_n + 1))
      if [ -n "$tap" ]; then
        echo "not ok $done_n - $name: not caught: $(words_of "$name")"
      else
        echo "$name: NOT CAUGHT: $(words_of "$name")"
      fi
    elif [ -e "$work/$name.broken" ]; then
      done_n=$((done_n + 1)) broken=$((broken + 1))
      [ -z "$tap" ] || echo "not ok $done_n - $name: does not apply or build"
      echo "mutations.sh: $name does not apply or build:" >&2
      cat "$work/$name.broken" >&2
    else
      continue
    fi
    reported[$name]=yes
  done
}

declare -A reported=()
[ -z "$tap" ] || echo "1..${#names[@]}"
running=0
for name in "${names[@]}"; do
  if [ "$running" -ge "$jobs" ]; then
    wait -n
    running=$((running - 1))
    report_finished
  fi
  handle "$name" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n
  running=$((running - 1))
  report_finished
done
[ -z "$tap" ] || printf '# '
echo "${#names[@]} mutations, $caught caught"
[ "$broken" -eq 0 ] || exit 2
[ "$caught" -eq "${#names[@]}" ]
