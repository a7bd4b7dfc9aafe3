#!/usr/bin/env bash
# Goal: a wrong command line is one clear line, exit status 2, and nothing is made or changed.
. "$(dirname "$0")/../lib/tap.sh"

refused() { # OPTIONS PART
  fails_with 2 "$2" "-o $1" "$QUORUMFS" mount -o "store=$store,$1" "$mnt"
}
refused nodes=0 "nodes=0"
refused nodes=65 "nodes=65"
refused nodes=many "many"
refused nodes=3,replicas=4 "replicas=4"
refused replicas=0 "replicas=0"
refused wibble "wibble"
refused wibble=3 "wibble"
refused timeout=5 "timeout=5"
refused timeout=1s "timeout=1s"
refused tombstone_grace=-1 "tombstone_grace=-1"
refused node9=/tmp/x "node9"
refused engine=etcd "not available"
refused engine=none "none"
refused ephemeral "exclude"
fails_with 2 "needs a value" "-o store without a value" "$QUORUMFS" mount -o store "$mnt"
fails_with 2 "mountpoint" "a mountpoint inside the store" "$QUORUMFS" mount -c -o "store=$store" "$store/mnt"
fails_with 2 "mountpoint" "a store inside the mountpoint" "$QUORUMFS" mount -o "store=$mnt/store" "$mnt"
touch "$work/file"
mkdir "$work/full" && touch "$work/full/x"
fails_with 2 "not a directory" "a file as mountpoint" "$QUORUMFS" mount -o "store=$store" "$work/file"
fails_with 2 "not empty" "a non-empty mountpoint" "$QUORUMFS" mount -o "store=$store" "$work/full"
fails_with 2 "No such file" "a missing mountpoint" "$QUORUMFS" mount -o "store=$store" "$work/none"
fails_with 2 "Not a directory" "a mountpoint below a file" "$QUORUMFS" mount -c -o "store=$store" "$work/file/x"
fails_with 2 "not a directory" "a file as store" "$QUORUMFS" mount -o "store=$work/file" "$mnt"
fails_with 2 "not a directory" "a file as a node's directory" \
  "$QUORUMFS" mount -o "store=$store,node3=$work/file" "$mnt"
fails_with 2 "store $work/file/x: $work/file is not" "a store below a file" \
  "$QUORUMFS" mount -o "store=$work/file/x" "$mnt"
fails_with 2 "store /proc/x: cannot be made" "a store that cannot be made" \
  "$QUORUMFS" mount -o store=/proc/x "$mnt"
fails_with 2 "node 1: $work/file: is not" "a file as node 1" "$QUORUMFS" mount -o "store=$store,node1=$work/file" "$mnt"
fails_with 2 "mountpoint /proc/xx" "a mountpoint that cannot be made" \
  "$QUORUMFS" mount -c -o "store=$store" /proc/xx
for command in mount umount get delete status; do
  fails_with 2 "the path is empty" "$command of an empty path" bash -c 'cd "$1" && "$2" "$3" ""' - "$mnt" "$QUORUMFS" $command
done
fails_with 2 "the path is empty" "put of an empty path" "$QUORUMFS" put "" v
if [ -e /sys/fs/selinux/enforce ]; then
  skip "-o context=" "SELinux is in use here"
else
  refused context=system_u:object_r:tmp_t:s0 "SELinux is not in use"
fi
refused fsname= "option fsname needs a value"
for flag in sync ro ephemeral allow_other; do
  refused $flag=1 "option '$flag' takes no value"
done
fails_with 2 "missing" "no mountpoint" "$QUORUMFS" mount -o "store=$store"
fails_with 2 "too many" "two mountpoints" "$QUORUMFS" mount "$mnt" "$mnt"
fails_with 2 "--wibble" "an unknown flag" "$QUORUMFS" mount --wibble "$mnt"
fails_with 2 "wibble" "an unknown command" "$QUORUMFS" wibble
fails_with 2 "missing" "no command" "$QUORUMFS"
fails_with 2 "missing" "put without a value" "$QUORUMFS" put "$mnt/k"
fails_with 2 "timestamp" "a wrong timestamp" "$QUORUMFS" put "$mnt/k" v --timestamp soon
fails_with 2 "timestamp" "a negative timestamp" "$QUORUMFS" put "$mnt/k" v --timestamp=-1
fails_with 2 "timestamp" "a timestamp of 2^64" "$QUORUMFS" delete "$mnt/k" --timestamp 18446744073709551616
fails_with 1 "not in a mounted" "put outside a mount" "$QUORUMFS" put "$mnt/k" v
fails_with 2 "not in a mounted" "get outside a mount" "$QUORUMFS" get "$mnt/k"
fails_with 1 "no quorumfs store is mounted" "umount of what is not mounted" "$QUORUMFS" umount "$mnt"
is "$(cd "$work" && find . -path ./log -prune -o -path ./pids -prune -o -printf '%p\n' | sort | tr '\n' ' ')" \
  ". ./file ./full ./full/x ./mnt " "nothing was made"

for command in "" mount umount put get delete status nodes watch gc scrub repair partition; do
  # shellcheck disable=SC2086
  output=$(limited 10 "$QUORUMFS" $command --help)
  is "$?" 0 "quorumfs $command --help"
  has "$output" "Usage" "quorumfs $command --help tells the usage"
done
for command in "" mount umount put get delete status nodes watch gc scrub repair partition; do
  # shellcheck disable=SC2086
  has "$(limited 10 "$QUORUMFS" $command --version)" "quorumfs 0." "quorumfs $command --version"
done

mount_store nodes=3,replicas=3,node2="$work/second",timeout=500,sync,x-test,noauto,defaults || exit 1
is "$(ls "$work/second/replica.db")" "$work/second/replica.db" "node2= puts a node elsewhere"
is "$(grep -c . "$mnt/.quorumfs/status.json" >/dev/null && status_number replicas)" 3 "replicas= counts"
fails_with 2 "in use by another mount" "a second mount of the same store" "$QUORUMFS" mount -c -o "store=$store,node2=$work/second" "$work/mnt2"
fails_with 2 "already mounted" "a second mount on the same mountpoint" "$QUORUMFS" mount -o "store=$store" "$mnt"
fails_with 2 "already mounted" "another store on the same mountpoint" \
  "$QUORUMFS" mount --reuse -o "store=$work/other" "$mnt"
passes "--reuse of what is mounted" "$QUORUMFS" mount --reuse -o "store=$store,node2=$work/second" "$mnt"
has "$("$QUORUMFS" mount --reuse -o "store=$store,ro" "$mnt" 2>&1 >/dev/null)" "at the next mount" \
  "--reuse with other options says that they wait"
is "$("$QUORUMFS" mount --reuse -o "store=$store,nodes=3" "$mnt" 2>&1 >/dev/null)" "" "not if they only name the store"
fails_with 2 "node 1: $work/file" "--reuse with a wrong value" \
  "$QUORUMFS" mount --reuse -o "store=$store,node1=$work/file" "$mnt"
fails_with 2 "in use by another mount" "other nodes= while it is mounted" "$QUORUMFS" mount -c -o "store=$store,nodes=5" "$work/mnt2"
passes "nothing was made by those" test ! -e "$work/mnt2" -a ! -e "$work/other"
unmount_store
mount_store node2="$work/second" || exit 1
is "$(status_number nodes) $(status_number replicas)" "3 3" "an existing store gives the defaults"
finish
