#!/usr/bin/env bash
# Goal: what is installed works: program, man page, completion, mount -t fuse.quorumfs and fstab; ephemeral mounts start quickly and
# leave nothing behind.
. "$(dirname "$0")/../lib/tap.sh"
build=$(dirname "$QUORUMFS")
root=$work/root
passes "install" env DESTDIR="$root" meson install -C "$build" --no-rebuild
prefix=$(find "$root" -name quorumfs -path '*/bin/*' -printf '%h')/..
passes "the program" test -x "$prefix/bin/quorumfs"
is "$(find "$root" -name 'quorumfs.1*' | wc -l)" 1 "the man page"
is "$(basename "$(readlink "$prefix/sbin/mount.fuse.quorumfs")")" quorumfs "mount.fuse.quorumfs"
unit=$prefix/share/doc/quorumfs/examples/quorumfs@.service
passes "an example of a unit" test -s "$unit"
# systemd wants the programs to be there: the unit is verified with those of this build.
mkdir "$work/units"
sed "s,/usr/bin/quorumfs,$(readlink -f "$QUORUMFS")," "$unit" >"$work/units/quorumfs@.service"
if command -v systemd-analyze >/dev/null; then
  said=$(SYSTEMD_UNIT_PATH="$work/units:" systemd-analyze --man=no verify "$work/units/quorumfs@.service" 2>&1)
  is "$? $(grep -F quorumfs@ <<<"$said")" "0 " "which systemd accepts"
else
  skip "which systemd accepts" "no systemd-analyze here"
fi
# What systemd would run for the instance %i, the mountpoint %f.
unit_command() { # ExecStart|ExecStop
  sed -n "s/^$1=//p" "$work/units/quorumfs@.service" |
    sed "s,/var/lib/quorumfs,$work/var,; s,%i,unit,; s,%f,$work/unit,; s/\${QUORUMFS_OPTIONS}/$(sed -n 's/^Environment=QUORUMFS_OPTIONS=//p' "$unit")/"
}
read -r -a command <<<"$(unit_command ExecStart)"
if [ "$(id -u)" -eq 0 ]; then # allow_other
  passes "its command starts" "${command[@]}"
  sed -n 's/^  "pid" : \([0-9]*\),*$/\1/p' "$work/unit/.quorumfs/status.json" >>"$work/pids"
  is "$(echo x >"$work/unit/k" && cat "$work/unit/k") $(ls "$work/var")" "x unit" "and mounts a store of its own"
  read -r -a command <<<"$(unit_command ExecStop)"
  passes "its command stops" "${command[@]}"
  passes "and unmounts" not is_mounted "$work/unit"
else
  skip "its commands" "only root"
fi

# Completion: what bash would offer for the words, the last of which is being typed.
# shellcheck disable=SC1090
. "$prefix/share/bash-completion/completions/quorumfs"
compopt() { :; }
offers() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  _quorumfs
  printf '%s\n' "${COMPREPLY[@]}"
}
missing=
for command in $("$QUORUMFS" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
  offers quorumfs "$command" | grep -qx "$command" || missing+=" $command"
  for option in $("$QUORUMFS" "$command" --help | grep -E '^ +-' | grep -oE -- '--?[a-z][-a-z]*' | sort -u); do
    offers quorumfs "$command" "$option" | grep -qxE -- "$option=?" || missing+=" $command:$option"
  done
done
is "$missing" "" "completion knows every command and every option of each"
for option in $("$QUORUMFS" mount --help | sed -n '/^Mount options/,/^  allow_other/s/^  \([a-z_0-9]*=\{0,1\}\).*/\1/p'); do
  offers quorumfs mount -o "sync,$option" | grep -q "^sync,$option" || missing+=" $option"
done
is "$missing" "" "and every mount option"
mkdir "$work/dir with space"
is "$(cd "$work" && offers quorumfs umount dir)" "dir with space" "directories"
is "$(offers quorumfs nodes "$mnt" 1 u)" up "states of nodes"

# mount(8), in a mount namespace of our own, where /sbin has the link.
try_mount8() {
  mkdir -p "$work/sbin" "$work/kv"
  ln -sf "$QUORUMFS" "$work/sbin/mount.fuse.quorumfs"
  mount -t overlay overlay -o "lowerdir=$work/sbin:$(readlink -f /sbin)" "$(readlink -f /sbin)" || return 77
  mount -t fuse.quorumfs -o nodes=3,noatime "$work/kv-store" "$work/kv" || return 1
  echo blue >"$work/kv/colour"
  findmnt -n -o SOURCE,FSTYPE "$work/kv"
  umount "$work/kv"
  echo "$work/kv-store $work/kv fuse.quorumfs noauto,nofail,user,x-test 0 0" >"$work/fstab"
  mount --fstab "$work/fstab" "$work/kv" || return 1
  cat "$work/kv/colour"
  umount "$work/kv"
  mount -t fuse.quorumfs -o nodes=0 "$work/kv-store" "$work/kv"
  echo "wrong option: $?"
}
export -f try_mount8
export work QUORUMFS
if [ "$(id -u)" -ne 0 ]; then
  skip "mount -t fuse.quorumfs" "only root"
else
  output=$(timeout 240 unshare -m bash -c try_mount8 2>"$work/mount8.err")
  if [ "$?" -eq 77 ]; then
    skip "mount -t fuse.quorumfs" "no overlay here"
  else
    is "${output% *}" "$work/kv-store fuse.quorumfs
blue
wrong option:" "mount -t fuse.quorumfs, and by a line of fstab"
    has "$(cat "$work/mount8.err")" "nodes=0" "a wrong option is told"
    status8=${output##* }
    [ "$status8" -ne 0 ] && ok "and mount fails" || not_ok "and mount fails"
  fi
fi

# Ephemeral mounts.
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
best=99999
for _ in 1 2 3 4 5 6 7; do
  began=$(now_ms)
  "$QUORUMFS" mount -q -o ephemeral "$mnt"
  took=$(($(now_ms) - began))
  [ "$took" -ge "$best" ] || best=$took
  echo x >"$mnt/k"
  "$QUORUMFS" umount "$mnt"
done
diag "an ephemeral mount of 5 nodes serves after $best ms"
is "$(ls -A "$TMPDIR")" "" "ephemeral mounts leave nothing behind"
is "$(grep -c "$mnt" /proc/self/mountinfo)" 0 "nor a mount"
# They never wait for the disk: where every sync fails they work all the same.
printf '%-511s\n' "s 5 $TMPDIR" >"$work/faults"
preload diskfault.so QFS_FAULTS="$work/faults"
"$QUORUMFS" mount -q -o ephemeral "$mnt"
is "$? $(echo x >"$mnt/k" && sync -f "$mnt/k" && cat "$mnt/k")" "0 x" "and sync nothing"
"$QUORUMFS" umount "$mnt"
finish
