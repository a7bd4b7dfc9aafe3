#!/usr/bin/env bash
# Goal: mounting, unmounting, crashing and coming back: no stale mount, no hang, no lost value.
. "$(dirname "$0")/../lib/tap.sh"

daemon_pid() { sed -n 's/^  "pid" : \([0-9]*\),*$/\1/p' "${1:-$mnt}/.quorumfs/status.json"; }
# Mounts in the background, as a user does.
mount_background() {
  limited 60 "$QUORUMFS" mount "$@" >"$work/said" 2>"$work/said.err" || return
  daemon=$(daemon_pid "${*: -1}")
  echo "$daemon" >>"$work/pids"
}

mount_background -o "store=$store" "$mnt"
is "$?" 0 "mount returns when it serves"
has "$(cat "$work/said")" "$mnt" "and names the mountpoint"
has "$(cat "$work/said")" "$store" "and the store"
has "$(cat "$work/said")" "umount $mnt" "and how to unmount"
is "$(cat "$work/said.err")" "" "and has nothing else to say"
is "$(tr '\0' ' ' <"/proc/$daemon/cmdline" | grep -c mount)" 1 "status.json tells the daemon's process"
is "$(readlink "/proc/$daemon/cwd")" / "the daemon holds no directory busy"
is "$(readlink "/proc/$daemon/fd/0") $(readlink "/proc/$daemon/fd/2")" "/dev/null /dev/null" "nor a terminal"
is "$(ps -o sid= -p "$daemon" | tr -d ' ')" "$daemon" "it has a session of its own"
is "$(stat -c %a "$store")" 700 "the store is for its owner only"
is "$(findmnt -n -o FSTYPE "$mnt")" fuse.quorumfs "the file system has a name"
echo kept >"$mnt/k"
passes "umount" "$QUORUMFS" umount "$mnt"
passes "unmounts" not is_mounted
passes "and returns when the daemon has ended" dead "$daemon"
is "$(ls -A "$mnt")" "" "the mountpoint is there and empty"
mount_background -o "store=$store" "$mnt"
is "$?" 0 "the store mounts again at once"
is "$(cat "$mnt/k")" kept "with its data"

sleep 300 <"$mnt/k" & sleeper=$!
exec 7>"$mnt/open"
fails_with 1 "in use" "umount with open files says so" "$QUORUMFS" umount "$mnt"
is "$(cat "$mnt/k")" kept "and leaves the mount alone"
kill -TERM "$daemon"
passes "SIGTERM with open files ends the daemon" within 60 dead "$daemon"
passes "and unmounts" not is_mounted
exec 7>&-
kill "$sleeper"
wait "$sleeper" 2>/dev/null

for signal in INT HUP; do
  mount_background -o "store=$store" "$mnt"
  kill "-$signal" "$daemon"
  within 60 dead "$daemon"
  passes "SIG$signal unmounts" not is_mounted
done

mount_background -o "store=$store" "$mnt"
echo precious >"$mnt/p"
kill -KILL "$daemon"
within 60 dead "$daemon"
limited 60 cat "$mnt/p" >/dev/null 2>&1
fails_with 1 "Transport endpoint is not connected" "kill -9 leaves a dead mount" cat "$mnt/p"
gone="the daemon of the mount $mnt is gone; mount again with 'quorumfs mount -o store=$store $mnt'"
fails_with 1 "$gone" "then put says so" "$QUORUMFS" put "$mnt/p" v
fails_with 2 "$gone" "and get" "$QUORUMFS" get "$mnt/p"
fails_with 1 "$gone" "and delete" "$QUORUMFS" delete "$mnt/p"
fails_with 1 "$gone" "and status" "$QUORUMFS" status "$mnt"
said=$(cd / && limited 60 "$QUORUMFS" status 2>&1)
is "$(grep -cF "$mnt" <<<"$said")" 0 "status without a path ignores it"
mount_background -o "store=$store" "$mnt"
is "$?" 0 "the next mount cleans it up"
is "$(cat "$mnt/p")" precious "and has what was acknowledged"
is "$(grep -cF " $mnt " /proc/self/mountinfo)" 1 "there is one mount, not two"
kill -KILL "$daemon"
within 60 dead "$daemon"
passes "umount removes a dead mount" "$QUORUMFS" umount "$mnt"
passes "it is gone" not is_mounted

ln -s "$mnt" "$work/link"
mount_background -o "store=$store" "$work/link"
is "$? $(cat "$mnt/p")" "0 precious" "a mountpoint may be a symlink"
passes "also for umount" "$QUORUMFS" umount "$work/link"
mount_background --create -o "store=$work/other" "$work/a/b c/d"
is "$?" 0 "--create makes a missing mountpoint"
has "$(cat "$work/said")" "'$work/a/b c/d'" "and quotes it where the shell needs that"
passes "umount" "$QUORUMFS" umount "$work/a/b c/d"
is "$(find "$work/a" -type d | wc -l)" 3 "the mountpoint stays"

mount_background -o ephemeral,nodes=3 "$mnt"
is "$?" 0 "an ephemeral store"
temporary=$(sed -n 's/^  "store" : "\(.*\)",*$/\1/p' "$mnt/.quorumfs/status.json")
echo x >"$mnt/k"
passes "has a directory" test -d "$temporary"
passes "umount" "$QUORUMFS" umount "$mnt"
passes "which is gone after it" test ! -e "$(dirname "$temporary")"

mount_background -o "store=$store,ro" "$mnt"
is "$? $(cat "$mnt/p")" "0 precious" "mounted read-only"
fails_with 1 "Read-only file system" "nothing is written" bash -c "echo x > '$mnt/p'"
passes "umount" "$QUORUMFS" umount "$mnt"
mount_background -o "store=$store,fsname=my\\,name" "$mnt"
is "$(findmnt -n -o SOURCE "$mnt")" "my,name" "fsname= with a comma"
passes "umount" "$QUORUMFS" umount "$mnt"

ln -s "$QUORUMFS" "$work/mount.fuse.quorumfs"
passes "mount.fuse.quorumfs, as mount(8) calls it" "$work/mount.fuse.quorumfs" "$store" "$mnt" -o rw,noauto,_netdev
daemon=$(daemon_pid) && echo "$daemon" >>"$work/pids"
is "$(cat "$mnt/p")" precious "serves"
passes "umount" "$QUORUMFS" umount "$mnt"

mount_background -o "store=$store" "$mnt"
echo plain >"$mnt/plain"
umount "$mnt"
mount_background -o "store=$store" "$mnt"
is "$? $(cat "$mnt/plain")" "0 plain" "a mount right after a plain umount(8) waits for the former daemon"
former=$daemon
kill -STOP "$former"
umount -l "$mnt"
{ sleep 6 && kill -CONT "$former"; } &
mount_background -o "store=$store" "$mnt"
is "$? $(cat "$mnt/plain")" "0 plain" "also for one that takes seconds to end"
passes "umount" "$QUORUMFS" umount "$mnt"

for round in 1 2 3 4 5; do
  mount_background -o "store=$store" "$mnt" || break
  echo "$round" >"$mnt/round" || break
  "$QUORUMFS" umount "$mnt" || break
done
mount_background -o "store=$store" "$mnt"
is "$(cat "$mnt/round")" 5 "five times mounted, written, unmounted"
passes "umount" "$QUORUMFS" umount "$mnt"
finish
