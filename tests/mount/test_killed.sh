#!/usr/bin/env bash
# Goal: a killed daemon leaves nobody hanging, even when the kernel doesn't see that it is gone.
# A thread that waits in the kernel can keep /dev/fuse open after kill -9; here another process holds it.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
mount_store || exit 1

hold_device() { # PID: keeps a duplicate of its descriptor of /dev/fuse, prints a line when it has it
  exec python3 - "$1" <<'END'
import ctypes, os, signal, sys
pid, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
process = libc.syscall(434, pid, 0)
held = [libc.syscall(438, process, int(fd), 0) for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/fuse"]
print("held" if held and min(held) >= 0 else "failed: " + os.strerror(ctypes.get_errno()), flush=True)
os.close(process)
signal.pause()
END
}

watcher() { pgrep -P "$1" -x qfs-watcher; }
ended() { case $(ps -o stat= -p "$1") in "" | Z*) ;; *) return 1 ;; esac }
gone() { timeout -k 1 10 stat "$mnt/k" 2>&1 | grep -q 'not connected'; }

echo value >"$mnt/k"
has_watcher() { [ "$(watcher "$daemon" | wc -l)" = 1 ]; }
within 60 has_watcher
is "$(watcher "$daemon" | wc -l)" 1 "the daemon has a watcher"
# It may still be closing what it was born with.
holds_else() { readlink "/proc/$(watcher "$daemon")"/fd/* | grep -v '/abort$'; }
within 60 not holds_else
is "$(holds_else)" "" "which holds nothing else open"

coproc HOLDER { hold_device "$daemon"; }
# shellcheck disable=SC2154
holder=$HOLDER_PID
read -r line <&"${HOLDER[0]}"
is "$line" held "another process holds the daemon's device"
guard=$(watcher "$daemon")
kill -9 "$daemon"
within 60 gone && ok "who uses the mount is told at once" || not_ok "who uses the mount is told at once"
within 60 ended "$guard" && ok "the watcher has ended" || not_ok "the watcher has ended"
passes "umount works" limited 60 "$QUORUMFS" umount "$mnt"
mount_store || exit 1

kill "$holder"
wait "$holder" 2>/dev/null

# Names are created, renamed and removed by the kernel's and by the command line's way while the daemon is killed;
# in every other round the watcher first, so that mount and umount have to free the mount.
churn_files() { while [ ! -e "$work/stop" ]; do echo x >"$mnt/$1" && mv "$mnt/$1" "$mnt/$1-moved" && rm "$mnt/$1-moved"; done; }
churn_commands() { while [ ! -e "$work/stop" ]; do "$QUORUMFS" put "$mnt/$1" x && "$QUORUMFS" delete "$mnt/$1"; done; }
hung=0
for ((round = 1; round <= ${KILL_ROUNDS:-10}; round++)); do
  rm -f "$work/stop"
  loops=()
  for name in a b; do
    churn_files "$name" >/dev/null 2>&1 &
    loops+=($!)
    churn_commands "$name-put" >/dev/null 2>&1 &
    loops+=($!)
  done
  guard=$(watcher "$daemon")
  sleep "0.$((RANDOM % 5 + 3))"
  [ $((round % 2)) -eq 0 ] || kill -9 "$guard" 2>/dev/null
  kill -9 "$daemon"
  touch "$work/stop"
  limited 60 "$QUORUMFS" umount --lazy "$mnt" >/dev/null 2>&1 || hung=$((hung + 1))
  wait "${loops[@]}"
  mount_store || { not_ok "round $round: mounts again"; break; }
done
is "$hung" 0 "umount never hangs after a kill among changing names ($((round - 1)) rounds)"
is "$(cat "$mnt/k")" value "the store serves"
finish
