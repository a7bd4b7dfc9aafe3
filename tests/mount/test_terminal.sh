#!/usr/bin/env bash
# Goal: a long run shows a bar on a terminal, and nowhere else; in the background messages go to the system's log.
. "$(dirname "$0")/../lib/tap.sh"

# ---- the system's log: a socket of our own where there is none ----
if [ ! -e /dev/log ]; then
  python3 - "$work/system" <<'END' 9>&- &
import os, socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
log.settimeout(1)
test = os.getppid()
with open(sys.argv[1], "w", buffering=1) as out:
    while os.getppid() == test:
        try:
            out.write(log.recv(8192).decode(errors="replace").rstrip("\0\n") + "\n")
        except TimeoutError:
            pass
os.unlink("/dev/log")
END
  listener=$!
  within 60 test -S /dev/log || exit 1
fi
# Messages come in order: when this one is there, so are those before it.
mark() {
  python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), "/dev/log")' "mark $1."
  within 60 grep -qF "mark $1." "$work/system"
}
"$QUORUMFS" mount -q -o "store=$store,timeout=30000" "$mnt" || exit 1
for ((i = 0; i < 60; i++)); do head -c 400000 /dev/urandom >"$mnt/k$i"; done
if [ -n "${listener-}" ]; then
  passes "in the background messages go to the system's log" within 60 grep -Eq 'quorumfs\[[0-9]+\]: serving ' "$work/system"
  "$QUORUMFS" nodes "$mnt" 2 down >/dev/null
  echo x >"$mnt/while-away"
  mark 1
  before=$(wc -l <"$work/system")
  for ((i = 0; i < 50; i++)); do echo x >"$mnt/while-away"; done
  mark 2
  # Something else may be told meanwhile.
  passes "a node that is away is not told of again and again" test "$(wc -l <"$work/system")" -le $((before + 10))
  "$QUORUMFS" nodes "$mnt" 2 up >/dev/null
  within 60 is_up 2
  kill "$listener"
  rm -f /dev/log
else
  skip "somebody listens to /dev/log"
fi

# ---- a terminal ----
cat >"$work/on_terminal.py" <<'END'
import os, pty, sys
seen = b""
def take(fd):
    global seen
    data = os.read(fd, 4096)
    seen += data
    return data
status = pty.spawn(sys.argv[2:], take)
print(status, "bar" if b"\rscrub [" in seen and b"%" in seen else "no bar", "erased" if b"\x1b[K" in seen else "left", file=open(sys.argv[1], "w"))
END
# A run may be over before it is looked at: then there is nothing to show.
for ((i = 0; i < 20; i++)); do
  python3 "$work/on_terminal.py" "$work/terminal" "$QUORUMFS" scrub "$mnt" </dev/null >/dev/null
  [ "$(cat "$work/terminal")" = "0 no bar erased" ] || break
done
is "$(cat "$work/terminal")" "0 bar erased" "a scrub shows a bar on a terminal and takes it away"
"$QUORUMFS" scrub "$mnt" >"$work/out" 2>"$work/error"
is "$(cat "$work/error")" "" "and none elsewhere"
passes "umount" "$QUORUMFS" umount "$mnt"
finish
