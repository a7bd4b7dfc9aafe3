#!/usr/bin/env bash
# Goal: set-id bits and capabilities go when a file is written, truncated or given away, as they do on an ordinary file
# system, and stat(2) says so at once.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
allow=
[ "$(id -u)" -ne 0 ] || allow=,allow_other
mount_store "nodes=3$allow" || exit 1

if [ "$(id -u)" -eq 0 ]; then
  mkdir "$work/plain"
  chmod 755 "$mnt"
  chmod 755 "$work"
  for dir in "$work/plain" "$mnt"; do
    (cd "$dir" && python3 - 2>&1) >"$work/$(basename "$dir").out" <<'END'
import errno, os, stat
NOBODY = 65534
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep

def as_user(uid, act):
    child = os.fork()
    if child == 0:
        try:
            os.setgid(uid)
            os.setuid(uid)
            act()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def with_fd(flags, act):
    def run():
        fd = os.open("f", flags)
        act(fd)
        os.close(fd)
    return run

changes = {
    "write": with_fd(os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "write nothing": with_fd(os.O_WRONLY, lambda fd: os.write(fd, b"")),
    "replace": with_fd(os.O_WRONLY | os.O_TRUNC, lambda fd: os.write(fd, b"x")),
    "append": with_fd(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "write, open for both": with_fd(os.O_RDWR, lambda fd: os.write(fd, b"x")),
    "truncate": lambda: os.truncate("f", 1),
    "ftruncate": with_fd(os.O_RDWR, lambda fd: os.ftruncate(fd, 1)),
    "open with O_TRUNC": with_fd(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "open for both with O_TRUNC": with_fd(os.O_RDWR | os.O_TRUNC, lambda fd: None),
    "fallocate": with_fd(os.O_RDWR, lambda fd: os.posix_fallocate(fd, 0, 100)),
    "chgrp": lambda: os.chown("f", -1, NOBODY),
    "chmod": lambda: os.chmod("f", 0o6711),
    "utime": lambda: os.utime("f"),
    "read": with_fd(os.O_RDONLY, lambda fd: os.read(fd, 10)),
}
by_root = {"chown": lambda: os.chown("f", 1, -1), "chown and chgrp": lambda: os.chown("f", 1, 1)}

def make(mode, capability):
    if os.path.lexists("f"):
        os.unlink("f")
    with open("f", "wb") as f:
        f.write(b"content")
    os.chown("f", NOBODY, NOBODY)
    os.chmod("f", mode)
    if capability:
        os.setxattr("f", "security.capability", CAPABILITY)
    os.stat("f")

def has_capability():
    try:
        os.getxattr("f", "security.capability")
        return True
    except OSError as error:
        return False if error.errno == errno.ENODATA else errno.errorcode[error.errno]

for uid in (NOBODY, 0):
    for name, act in (changes | (by_root if uid == 0 else {})).items():
        for mode in (0o4755, 0o2755, 0o2644, 0o6777, 0o755):
            make(mode, False)
            error = as_user(uid, act)
            print(f"{uid} {name} {mode:o}: {error} {stat.S_IMODE(os.stat('f').st_mode):o}")
            # Once more: what was remembered of the first time.
            os.chmod("f", mode)
            error = as_user(uid, act)
            print(f"{uid} {name} {mode:o} again: {error} {stat.S_IMODE(os.stat('f').st_mode):o}")
        make(0o755, True)
        error = as_user(uid, act)
        print(f"{uid} {name} with a capability: {error} {has_capability()}")
        os.setxattr("f", "security.capability", CAPABILITY)
        error = as_user(uid, act)
        print(f"{uid} {name} with a capability again: {error} {has_capability()}")
END
  done
  diff "$work/plain.out" "$work/mnt.out" >"$work/differences"
  passes "the cases were looked at" test "$(wc -l <"$work/mnt.out")" -ge 300
  is "$(head -20 "$work/differences")" "" "set-id bits and capabilities go when they go on $(stat -f -c %T "$work/plain")"
  has "$(cat "$work/mnt.out")" "65534 write 4755: 0 755" "who is not root takes them by writing"
else
  skip "set-id bits and capabilities go" "only root can give files away"
fi

finish
