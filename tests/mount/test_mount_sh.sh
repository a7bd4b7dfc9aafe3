#!/usr/bin/env bash
# Goal: mount.sh builds, mounts and unmounts, twice without harm, and refuses what is wrong.
. "$(dirname "$0")/../lib/tap.sh"
QUORUMFS_BUILD_DIR=$(dirname "$QUORUMFS")
export QUORUMFS_BUILD_DIR
script=$top/mount.sh
remember_daemon() { sed -n 's/^  "pid" : \([0-9]*\),*$/\1/p' "$mnt/.quorumfs/status.json" >>"$work/pids"; }

has "$("$script" --help)" "Usage: mount.sh" "--help"
fails_with 2 "mountpoint is missing" "no mountpoint" "$script"
fails_with 2 "--wibble" "an unknown flag" "$script" --wibble "$mnt"
fails_with 2 "needs options" "-o without options" "$script" -o
fails_with 2 "takes no options" "-u with -o" "$script" -u -o sync "$mnt"
fails_with 2 "wibble" "an unknown option" "$script" -o "store=$store,wibble" "$work/new"
fails_with 2 "replicas=4" "replicas=4 of nodes=3" "$script" -o "store=$store,nodes=3,replicas=4" "$work/new"
touch "$work/file"
fails_with 2 "not a directory" "a file as mountpoint" "$script" -o "store=$store" "$work/file"
passes "nothing was made" test ! -e "$work/new" -a ! -e "$store"

rmdir "$mnt"
said=$(limited 60 "$script" -o "store=$store" "$mnt" 2>"$work/said.err")
is "$?" 0 "mounts, and makes the mountpoint"
remember_daemon
has "$said" "$mnt" "says where"
has "$said" "$store" "says where the store is"
has "$said" "mount.sh -u $mnt" "says how to unmount"
echo blue >"$mnt/colour"
is "$(cat "$mnt/colour")" blue "serves"
said=$(limited 60 "$script" -o "store=$store" "$mnt")
is "$?" 0 "a second time does no harm"
has "$said" "already mounted" "and says so"
is "$(grep -cF " $mnt " /proc/self/mountinfo)" 1 "and mounts nothing more"
fails_with 2 "already mounted" "another store at the same place" "$script" -o "store=$work/other" "$mnt"
fails_with 2 "in use by another mount" "the same store at another place" "$script" -o "store=$store" "$work/new"
passes "which is not made" test ! -e "$work/new" -a ! -e "$work/other"
passes "-u unmounts" "$script" -u "$mnt"
passes "it is gone" not is_mounted
fails_with 1 "no quorumfs store is mounted" "-u of what is not mounted" "$script" -u "$mnt"

# The default store is below XDG_DATA_HOME.
said=$(XDG_DATA_HOME=$work/data limited 60 "$script" "$mnt")
is "$?" 0 "mounts without options"
remember_daemon
has "$said" "$work/data/quorumfs/default" "the default store"
five() { [ "$(find "$work/data/quorumfs/default" -name replica.db | wc -l)" -eq 5 ]; }
passes "has five nodes" within 60 five
passes "-u" "$script" -u "$mnt"

# What mount.sh says where it may not install: a PATH with nothing but what it needs itself.
mkdir "$work/bin"
for tool in bash sh env id dirname cat mktemp rm printf grep sudo-absent; do
  ln -s "$(command -v "$tool")" "$work/bin/$tool" 2>/dev/null
done
ln -sf "$(command -v false)" "$work/bin/sudo"
printf '#!%s\necho 1000\n' "$(command -v bash)" >"$work/bin/fake-id"
rm "$work/bin/id" && mv "$work/bin/fake-id" "$work/bin/id" && chmod 755 "$work/bin/id"
fails_with 2 "apt-get install -y gcc meson ninja-build pkg-config fuse3 libc6-dev libfuse3-dev libglib2.0-dev" \
  "without packages and rights it says what to install" env PATH="$work/bin" "$script" "$mnt"

# Two at once build once and mount two stores.
limited 120 "$script" -o "store=$work/s1" "$work/m1" >/dev/null 2>&1 & first=$!
limited 120 "$script" -o "store=$work/s2" "$work/m2" >/dev/null 2>&1 & second=$!
wait "$first"; is "$?" 0 "two mount.sh at once: the first"
wait "$second"; is "$?" 0 "and the second"
passes "-u" "$script" -u "$work/m1"
passes "-u" "$script" -u "$work/m2"
finish
