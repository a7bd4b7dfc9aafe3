#!/usr/bin/env bash
# mutations.sh - does the simulator notice when a rule of the store is broken? See usage below.
#
# mutations/NAME.patch breaks one rule; its first line says which, in words. Each is applied to a copy
# of the files that it changes, compiled beside the unchanged objects, and run until a seed fails.
set -u

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
patches=$top/tests/sim/mutations
seeds=1500
jobs=$(nproc)
tap=
list=
only=()

usage() {
  cat <<END
Usage: tests/sim/mutations.sh [--seeds N] [--only NAME]... [--jobs J] [--open] [--tap] [--list]
                              [--help]

Breaks the rules of cluster/ and storage/ on purpose, one at a time (tests/sim/mutations/*.patch),
and runs the simulator on each until a seed fails that passes without the mutation: at most N
seeds (default $seeds) of survivable faults, then as many of unlimited ones. Prints a line for each with
the seed and the check that caught it; the last line is "N mutations, M caught". Those in
mutations/open/ are not caught yet (or by luck): --open runs them in place of the others.

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
  --open) patches=$patches/open ;;
  --list) list=yes ;;
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

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
modules='glib-2.0 sqlite3 libxxhash'
flags=(-std=gnu11 -O2 -g -w -pthread -D_GNU_SOURCE '-DG_LOG_DOMAIN="quorumfs"' '-DQFS_VERSION="mutated"'
  "-I$top")
read -ra includes < <(pkg-config --cflags $modules)
read -ra libraries < <(pkg-config --libs $modules)

# compile FILE: the object of a source file, by its path below the top; OBJECT SOURCE name both.
compile() { cc "${flags[@]}" "${includes[@]}" -c -o "$1" "$2"; }
object_of() { printf '%s\n' "${1//\//_}.o"; }

build_unchanged() {
  mkdir "$work/unchanged" || return 1
  cd "$top" || return 1
  sources=(storage/*.c cluster/*.c tests/sim/*.c)
  local source running=0
  for source in "${sources[@]}"; do
    compile "$work/unchanged/$(object_of "$source")" "$source" || touch "$work/failed" &
    running=$((running + 1))
    if [ "$running" -ge "$jobs" ]; then wait -n && running=$((running - 1)); fi
  done
  wait
  [ ! -e "$work/failed" ] && cc -pthread -o "$work/unchanged/sim" "$work"/unchanged/*.o "${libraries[@]}"
}

# build NAME: the simulator with the mutation in it.
build() {
  local dir=$work/$1 file objects
  mkdir -p "$dir/objects"
  for file in $(sed -n 's,^--- a/,,p' "$patches/$1.patch"); do
    mkdir -p "$dir/$(dirname "$file")" && cp "$top/$file" "$dir/$file" || return 1
  done
  patch -s -p1 -d "$dir" --fuzz=1 <"$patches/$1.patch" || return 1
  cp -s "$work"/unchanged/*.o "$dir/objects/" || return 1
  for file in $(sed -n 's,^--- a/,,p' "$patches/$1.patch"); do
    rm -f "$dir/objects/$(object_of "$file")"
    compile "$dir/objects/$(object_of "$file")" "$dir/$file" || return 1
  done
  cc -pthread -o "$dir/sim" "$dir"/objects/*.o "${libraries[@]}"
}

# catch NAME OPTION...: prints "SEED: CHECK" of a seed that fails, but not without the mutation.
catch() {
  local sim=$work/$1/sim start=1 failure seed
  shift
  while [ "$start" -le "$seeds" ]; do
    failure=$("$sim" --until-failure --tail 0 --timeout 30 --jobs "$jobs" --start "$start" \
      --seeds $((seeds - start + 1)) "$@" | grep -A 3 '^# seed [0-9]* FAILED' | grep -v '^--')
    seed=$(printf '%s\n' "$failure" | sed -n 's/^# seed \([0-9]*\) FAILED.*/\1/p' | sort -n | head -n 1)
    [ -n "$seed" ] || return 1
    if "$work/unchanged/sim" --seed "$seed" "$@" >/dev/null 2>&1; then
      printf '%s\n' "$failure" | sed -n "/^# seed $seed FAILED/,/^# replay/p" | grep -v '^# replay' |
        sed 's/^# seed //; s/ FAILED//' | grep -v '^Bail out' | cut -c 1-200 | paste -s -d ' '
      return 0
    fi
    start=$((seed + 1))
  done
  return 1
}

if ! build_unchanged; then
  echo "mutations.sh: the simulator does not build" >&2
  exit 2
fi
[ -z "$tap" ] || echo "1..${#names[@]}"
caught=0
for i in "${!names[@]}"; do
  name=${names[$i]}
  if ! build "$name" >"$work/log" 2>&1; then
    [ -z "$tap" ] || echo "Bail out! $name does not apply or build"
    echo "mutations.sh: $name does not apply or build:" >&2
    cat "$work/log" >&2
    exit 2
  fi
  options=()
  # Mutations of the SQLite replica do not show with the storage model.
  if grep -q '^--- a/storage/' "$patches/$name.patch" && ! grep -q '^--- a/storage/record.c' "$patches/$name.patch"; then
    options=(--storage sqlite)
  fi
  if how=$(catch "$name" "${options[@]}") || how=$(catch "$name" --unlimited "${options[@]}" | sed 's/^/unlimited /;/./!d;q'; exit "${PIPESTATUS[0]}"); then
    caught=$((caught + 1))
    if [ -n "$tap" ]; then echo "ok $((i + 1)) - $name: seed $how"; else echo "$name: seed $how"; fi
  elif [ -n "$tap" ]; then
    echo "not ok $((i + 1)) - $name: not caught: $(words_of "$name")"
  else
    echo "$name: NOT CAUGHT: $(words_of "$name")"
  fi
  rm -rf "${work:?}/$name"
done
[ -z "$tap" ] || printf '# '
echo "${#names[@]} mutations, $caught caught"
[ "$caught" -eq "${#names[@]}" ]
