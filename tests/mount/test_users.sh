#!/usr/bin/env bash
# Goal: an ordinary user mounts through fusermount3, and other users may do what modes and owners say, no
# more. /dev/fuse is replaced in a mount namespace of our own, so that nothing changes on the machine.
if [ "$(id -u)" -eq 0 ] && [ -z "${IN_NAMESPACE-}" ] && unshare -m true 2>/dev/null; then
  IN_NAMESPACE=yes exec unshare -m --propagation private bash "$0"
fi
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
if [ -z "${IN_NAMESPACE-}" ]; then
  skip "ordinary users" "only root can make a namespace"
  finish
fi

chmod 755 "$work"
mkdir "$work/home" "$work/dev" "$work/bin"
chown 65534:65534 "$work/home"
# The program may lie where an ordinary user cannot go.
cp "$QUORUMFS" "$work/bin/quorumfs"
chmod 755 "$work/bin" "$work/bin/quorumfs"
QUORUMFS=$work/bin/quorumfs
as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups env "HOME=$work/home" XDG_DATA_HOME=)

mount_store allow_other || exit 1
echo shared >"$mnt/shared"
(umask 077 && echo secret >"$mnt/secret")
mkdir -m 1777 "$mnt/tmp"
is "$("${as_user[@]}" cat "$mnt/shared")" shared "another user reads what modes allow"
fails_with 1 "Permission denied" "and nothing else" "${as_user[@]}" cat "$mnt/secret"
fails_with 1 "Permission denied" "nor writes" "${as_user[@]}" bash -c "echo x > '$mnt/shared'"
passes "but does in a directory for all" "${as_user[@]}" bash -c "echo own > '$mnt/tmp/own'"
is "$(stat -c %u:%g "$mnt/tmp/own")" 65534:65534 "as the owner"
fails_with 1 "Operation not permitted" "chown needs root" "${as_user[@]}" chown 0 "$mnt/tmp/own"
fails_with 1 "Permission denied" "put does not go around permissions" "${as_user[@]}" "$QUORUMFS" put "$mnt/shared" x
fails_with 1 "Permission denied" "nodes are the mounter's to switch" \
  "${as_user[@]}" bash -c "echo down > '$mnt/.quorumfs/nodes/1/state'"
is "$("${as_user[@]}" "$QUORUMFS" get "$mnt/shared")" shared "get is for all"
passes "status too" "${as_user[@]}" "$QUORUMFS" status "$mnt"
fails_with 2 "Permission denied" "the store's files are not" "${as_user[@]}" ls "$store"
fails_with 1 "only the user who mounted the store" "umount is not" "${as_user[@]}" "$QUORUMFS" umount "$mnt"
fails_with 1 "only the user who mounted the store" "nor with --lazy" "${as_user[@]}" "$QUORUMFS" umount --lazy "$mnt"
unmount_store
mount_store || exit 1
fails_with 1 "Permission denied" "without allow_other nobody else enters" "${as_user[@]}" cat "$mnt/shared"
unmount_store

read -r major minor < <(stat -c '%t %T' /dev/fuse)
if ! mount -t tmpfs -o dev,mode=755 none "$work/dev" || ! mknod "$work/dev/fuse" c $((16#$major)) $((16#$minor)); then
  skip "mounting as an ordinary user" "no device can be made here"
  finish
fi
chmod 600 "$work/dev/fuse"
mount --bind "$work/dev/fuse" /dev/fuse
kv=$work/home/kv
fails_with 2 "chmod 666 /dev/fuse" "where /dev/fuse forbids it, it says how to allow it" \
  "${as_user[@]}" "$QUORUMFS" mount -c "$kv"
is "$(ls -A "$work/home")" "" "and makes nothing"
chmod 666 "$work/dev/fuse"
if ! grep -qs '^user_allow_other' /etc/fuse.conf; then
  fails_with 2 "user_allow_other" "allow_other needs root's consent" "${as_user[@]}" "$QUORUMFS" mount -c -o allow_other "$kv"
fi
fails_with 2 "fusermount3 is missing" "without fusermount3 it says what to install" \
  "${as_user[@]}" env PATH=/nonexistent "$QUORUMFS" mount -c "$kv"
passes "an ordinary user mounts" "${as_user[@]}" "$QUORUMFS" mount -c "$kv"
user_pid() { "${as_user[@]}" sed -n 's/^  "pid" : \([0-9]*\),*$/\1/p' "$kv/.quorumfs/status.json"; }
user_pid >>"$work/pids"
passes "writes" "${as_user[@]}" bash -c "echo mine > '$kv/k'"
is "$("${as_user[@]}" cat "$kv/k")" mine "reads"
is "$("${as_user[@]}" "$QUORUMFS" put "$kv/p" v)" applied "puts"
passes "switches nodes" "${as_user[@]}" bash -c "echo down > '$kv/.quorumfs/nodes/1/state' && echo up > '$kv/.quorumfs/nodes/1/state'"
is "$(stat -c %U "$work/home/.local/share/quorumfs/default")" nobody "the store is below the user's home"
passes "unmounts" "${as_user[@]}" "$QUORUMFS" umount "$kv"
passes "it is gone" not is_mounted "$kv"
passes "mounts again" "${as_user[@]}" "$QUORUMFS" mount "$kv"
pid=$(user_pid)
echo "$pid" >>"$work/pids"
kill -KILL "$pid"
# A process is seen as a zombie while threads of it still hold the store.
ended() { dead "$pid" && [ "$(find /proc/"$pid"/task -mindepth 1 -maxdepth 1 | wc -l)" -le 1 ]; }
within 60 ended
passes "cleans up after a crash" "${as_user[@]}" "$QUORUMFS" mount "$kv"
user_pid >>"$work/pids"
is "$("${as_user[@]}" cat "$kv/k")" mine "with the value"
passes "unmounts" "${as_user[@]}" "$QUORUMFS" umount "$kv"
umount /dev/fuse
umount "$work/dev"
finish
