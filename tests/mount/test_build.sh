#!/usr/bin/env bash
# Goal: this repository is cloned into the mount, checked, configured and built there, all of it; what was built runs
# there and passes tests, and a second build knows what is to be done.
WATCHDOG_SECONDS=${WATCHDOG_SECONDS:-880}
. "$(dirname "$0")/../lib/tap.sh"

# Under load a node may be slow; that is not what is tested here.
mount_store timeout=30000 || exit 1
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
source=$top
if ! git -C "$top" rev-parse HEAD >/dev/null 2>&1; then # unpacked from an archive
  source=$work/source
  mkdir "$source"
  (cd "$top" && tar -cf - --exclude='./build*' --exclude=./.git .) | tar -C "$source" -xf -
  git -C "$source" init -q && git -C "$source" add . && git -C "$source" commit -q -m all
fi

# step NAME COMMAND...: with its time.
step() {
  local name=$1 started status=0
  shift
  started=$(now_ms)
  limited 600 "$@" >"$work/said" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then ok "$name"; else not_ok "$name" "$status: $(tail -n 20 "$work/said")"; fi
  diag "$name: $(($(now_ms) - started)) ms"
}
repo=$mnt/repo
step "git clone" git clone -q --no-local "$source" "$repo"
is "$(git -C "$repo" rev-parse HEAD)" "$(git -C "$source" rev-parse HEAD)" "the same commit"
step "git fsck" git -C "$repo" fsck --full --strict
is "$(git -C "$repo" status --porcelain)" "" "git status is clean"
step "meson setup" meson setup -Doptimization=0 "$repo/build" "$repo"
step "ninja" ninja -C "$repo/build"
has "$(ninja -C "$repo/build")" "no work to do" "built again, nothing is to be done"
is "$("$repo/build/quorumfs" --version)" "$("$QUORUMFS" --version)" "the program runs"
for unit in clock record xattrs replica linked; do
  step "test_$unit" "$repo/build/tests/unit/test_$unit"
done
touch "$repo/fs/errno_map.c"
is "$(ninja -C "$repo/build" -n | grep -c 'Compiling C object')" 1 "what was touched is compiled anew"
step "ninja clean" ninja -C "$repo/build" -t clean
step "rm -rf" rm -rf "$repo"
passes "misses nothing" test ! -e "$repo"
within 30 is_settled
agreement 3 "all owners hold the same rows"
finish
