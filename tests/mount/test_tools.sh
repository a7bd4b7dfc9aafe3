#!/usr/bin/env bash
# Goal: the tools that people use work in the mount: git, tar, cp -a, sort, sed -i, tail -f, find, diff.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1

export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t \
  GIT_COMMITTER_EMAIL=t@example.org
mkdir "$work/tree" && cd "$work/tree" || exit 1
mkdir -p src/deep/er doc
for i in $(seq 40); do seq "$i" $((i * 50)) >"src/file$i.c"; done
echo '#!/bin/sh' >src/deep/er/run && chmod 755 src/deep/er/run
head -c 300000 /dev/urandom >doc/blob
printf 'x' >'doc/with space'
cd /
tar -C "$work/tree" -cf "$work/tree.tar" .

mkdir "$mnt/tar"
passes "tar extracts" tar -C "$mnt/tar" -xf "$work/tree.tar"
passes "the same tree" diff -r "$work/tree" "$mnt/tar"
passes "tar packs" tar -C "$mnt/tar" -cf "$work/back.tar" .
mkdir "$work/back" && tar -C "$work/back" -xf "$work/back.tar"
passes "the same again" diff -r "$work/tree" "$work/back"
passes "tar kept the modes" test -x "$work/back/src/deep/er/run"
passes "tar kept the times" test "$(stat -c %.9Y "$work/tree/doc/blob")" = "$(stat -c %.9Y "$mnt/tar/doc/blob")" -o \
  "$(stat -c %Y "$work/tree/doc/blob")" = "$(stat -c %Y "$mnt/tar/doc/blob")"
passes "cp -a" cp -a "$work/tree/src" "$mnt/copied"
passes "the same" diff -r "$work/tree/src" "$mnt/copied"

mkdir "$mnt/repo" && cp -r "$work/tree/." "$mnt/repo"
passes "git init" git -C "$mnt/repo" init -q
passes "git add" git -C "$mnt/repo" add .
passes "git commit" git -C "$mnt/repo" commit -q -m one
echo more >>"$mnt/repo/src/file1.c"
passes "git commit -a" git -C "$mnt/repo" commit -q -a -m two
passes "git gc" git -C "$mnt/repo" gc -q
passes "git fsck" git -C "$mnt/repo" fsck --full --strict
is "$(git -C "$mnt/repo" status --porcelain)" "" "git status is clean"
passes "git clone out of the mount" git clone -q "$mnt/repo" "$work/clone"
passes "gives the same files" diff -r -x .git "$mnt/repo" "$work/clone"

seq 2000 | shuf >"$mnt/unsorted"
passes "sort -o onto itself" sort -n -o "$mnt/unsorted" "$mnt/unsorted"
is "$(md5sum <"$mnt/unsorted")" "$(seq 2000 | md5sum)" "sorts"
passes "sed -i" sed -i 's/^1$/one/' "$mnt/unsorted"
is "$(head -1 "$mnt/unsorted")" one "edits"
passes "a script in the mount runs" bash -c "printf '#!/bin/sh\necho ran\n' >'$mnt/script' && chmod 755 '$mnt/script' && '$mnt/script'"

echo first >"$mnt/followed"
timeout 200 tail -n +1 -f "$mnt/followed" >"$work/followed" 2>/dev/null & follower=$!
followed() { [ "$(cat "$work/followed")" = "$1" ]; }
within 60 followed first
echo second >>"$mnt/followed"
passes "tail -f sees what is appended" within 60 followed $'first\nsecond'
kill "$follower"
wait "$follower" 2>/dev/null

mkdir "$mnt/many"
for i in $(seq 3000); do echo "$i" >"$mnt/many/k$i"; done
is "$(find "$mnt/many" -type f | wc -l)" 3000 "a directory of 3,000 keys is listed whole"
is "$(find "$mnt/many" -type f | sort -u | wc -l)" 3000 "without repeats"
is "$(ls -l "$mnt/many" | awk 'NR > 1 { sum += $5 } END { print sum }')" \
  "$(seq 3000 | wc -c)" "ls -l has the right sizes"
passes "rm -rf" rm -rf "$mnt/many"
passes "misses nothing" test ! -e "$mnt/many"
finish
