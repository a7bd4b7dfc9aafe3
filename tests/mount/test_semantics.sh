#!/usr/bin/env bash
# Goal: what each operation on files is in the store (one put, one change of attributes, nothing at all), what an open
# file goes on seeing, and what is refused, as README's table of operations says.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000

mount_store || exit 1
cat >"$work/semantics.py" <<'END'
import ctypes, errno, fcntl, mmap, os, select, socket, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
top, quorumfs = sys.argv[1], sys.argv[2]
ONE_PUT_MAX = 1044480
WHOLE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def point(ok, name, info=""):
    if not ok:
        print("got", info, flush=True)
    print(("ok" if ok else "not ok"), "-", name, flush=True)


def error_of(f, *args, **kw):
    try:
        f(*args, **kw)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "none"


def events():
    with open(".quorumfs/events") as f:
        return f.read().splitlines()


def changes(f, *args):
    """What the store acknowledged because of that call."""
    before = len(events())
    f(*args)
    return [line.split(" ", 1)[1] for line in events()[before:]]


def write(name, data, flags=WHOLE):
    fd = os.open(name, flags, 0o644)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def number(text):
    return os.getxattr(text, "user.quorumfs.timestamp")


def metric(operation):
    with open(".quorumfs/metrics") as f:
        for line in f:
            if line.startswith('quorumfs_fuse_requests_total{operation="%s"}' % operation):
                return int(line.split()[1])


def puts():
    one = b"1" * ONE_PUT_MAX
    point(changes(write, "k", one) == ["put k"], "a write(2) of 1,044,480 bytes is one put")
    point(changes(write, "k", b"+" * ONE_PUT_MAX, os.O_WRONLY | os.O_APPEND) == ["put k"]
          and read("k") == one + b"+" * ONE_PUT_MAX, "so is one that appends")
    point(changes(write, "k", b"3" * 3000000) == ["put k"] * 3 and read("k") == b"3" * 3000000,
          "a write(2) of 3,000,000 bytes is three puts")
    fd = os.open("k", os.O_WRONLY)
    point(changes(os.pwrite, fd, b"in place", 1000000) == ["put k"], "a write in place is one put")
    os.close(fd)
    point(changes(write, "new", b"n") == ["put new"], "making a file and writing it is one put")
    before = len(events())
    os.close(os.open("none", WHOLE, 0o644))
    deadline = time.monotonic() + 20
    while len(events()) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    point([line.split(" ", 1)[1] for line in events()[before:]] == ["put none"] and read("none") == b"",
          "`: > key` is one put, of an empty value")
    fd = os.open("mine", WHOLE | os.O_EXCL, 0o644)
    point(events()[-1].endswith(" put mine"), "O_EXCL is a put at once")
    os.close(fd)
    point(changes(os.truncate, "k", 1500000) == ["put k"] and len(read("k")) == 1500000, "truncation is one put")
    fd = os.open("k", os.O_RDWR)
    point(changes(libc.fallocate, fd, 3, 65536, 1000000) == ["put k"], "punching a hole is one put")
    point(changes(os.pwrite, fd, b"both", 7) == ["put k"], "a write through a descriptor for both is a put when it returns")
    view = mmap.mmap(fd, 1500000)

    def store():  # the kernel may write some of it by itself before it is asked to
        view[5] = 1
        view[1200000] = 2
        view.flush()

    point(set(changes(store)) == {"put k"} and read("k")[1200000] == 2, "msync puts what was stored to a mapping")
    view.close()
    os.close(fd)


def attributes():
    write("big", b"b" * 3000000)
    version = number("big")
    calls = (os.chmod, "big", 0o600), (os.utime, "big", (1, 2)), (os.setxattr, "big", "user.x", b"v"), \
        (os.removexattr, "big", "user.x")
    seen = []
    for call in calls:
        seen.append(changes(*call))
        seen.append(number("big") > version)
        version = number("big")
    point(seen == [["attr big"], True] * 4, "a change of attributes is one change, and a new version", seen)
    if os.geteuid() == 0:
        point(changes(os.chown, "big", 1, 2) == ["attr big"], "chown is one change")
    point(read("big") == b"b" * 3000000, "the value stays")


def names():
    point(changes(os.mkdir, "d") == ["mkdir d"], "mkdir is one change")
    point(changes(os.symlink, "to", "d/s") == ["symlink d/s"] and changes(os.mkfifo, "d/p") == ["mknod d/p"],
          "so are symlink and mknod")
    write("d/f", b"f")
    point(changes(os.rename, "d/f", "d/g") == ["rename d/f\td/g"], "rename of a file is one change")
    point(changes(os.rename, "d", "e") == ["rename d\te"], "and of a directory with all that is in it")
    point(changes(os.link, "e/g", "e/h") == ["link e/g\te/h"], "link is one change")
    point(changes(os.unlink, "e/h") == ["delete e/h"] and read("e/g") == b"f", "unlink of one of two names is one change")
    for name in ("g", "s", "p"):
        os.unlink("e/" + name)
    point(changes(os.rmdir, "e") == ["delete e"], "rmdir is one change")
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen()
    socket.socket(socket.AF_UNIX).connect("socket")
    point(changes(os.unlink, "socket") == ["delete socket"], "a socket is made and connected to")


def nothing_happens(f, name):
    point(changes(f) == [], name)


def not_in_the_store():
    write("k", b"value")
    fd, other = os.open("k", os.O_RDWR), os.open("k", os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 10, 0)
    F_OFD_SETLK = 37

    def locks():
        fcntl.flock(fd, fcntl.LOCK_EX)
        fcntl.fcntl(fd, F_OFD_SETLK, lock)

    nothing_happens(locks, "locks are the kernel's: the store is not asked")
    point(error_of(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB) == "EAGAIN"
          and error_of(fcntl.fcntl, other, F_OFD_SETLK, lock) == "EAGAIN", "flock and OFD locks exclude each other's owners")
    child = os.fork()
    if child == 0:
        os._exit(0 if error_of(fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB) in ("EAGAIN", "EACCES") else 1)
    point(os.waitpid(child, 0)[1] == 0, "and locks of processes")
    os.close(fd)
    os.close(other)
    before = metric("fsync"), metric("fsyncdir")
    subprocess.check_call(["sync", "-f", "k"])
    none = metric("fsync"), metric("fsyncdir")
    subprocess.check_call(["sync", "k", "."])
    point(none == before and (metric("fsync"), metric("fsyncdir")) == (before[0] + 1, before[1] + 1),
          "sync FILE and sync DIRECTORY reach the store, syncfs(2) does not", (before, none))


def numbers():
    write("a", b"1")
    write("b", b"2")
    a, b = os.stat("a").st_ino, os.stat("b").st_ino
    write("a", b"replaced")
    os.rename("a", "c")
    point(a != b and os.stat("c").st_ino == a, "a file keeps its number when it is replaced by > and renamed")
    os.mkdir("dir")
    os.mkdir("dir/sub")
    state = os.stat("dir")
    point((state.st_size, state.st_nlink, state.st_blocks) == (0, 1, 0), "a directory has no size, and 1 as its count of links")
    print("number", a, flush=True)


def linux_has_direct_maps():
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 6)


def pinned_once():
    """Who opens beside a `>` under way reads its old value whole. None: this machine paused in between."""
    old, new = b"o" * 3000000, b"n" * 1000000
    write("pin", old)
    writer = os.open("pin", os.O_WRONLY | os.O_TRUNC)
    began = time.monotonic()
    reader = os.open("pin", os.O_RDONLY)
    got = os.read(reader, 1000000)
    os.write(writer, new)
    others = read("pin")
    while True:
        piece = os.read(reader, 1000000)
        if not piece:
            break
        got += piece
    took = time.monotonic() - began
    again = os.pread(reader, 2000000, 0)
    os.close(writer)
    os.close(reader)
    if took > 0.5:
        return None
    return got == old and again == new and others == new


def readers():
    write("r", b"old value")
    reader = os.open("r", os.O_RDONLY)
    got = [os.pread(reader, 3, 0)]
    write("r", b"new")
    got += [os.pread(reader, 10, 0), os.fstat(reader).st_size]
    write("beside", b"moved over it")
    os.rename("beside", "r")
    got += [os.pread(reader, 10, 0), read("r")]
    point(got == [b"old", b"new", 3, b"new", b"moved over it"],
          "who has a file open sees what `>` puts, and not what is renamed over it", got)
    os.close(reader)
    result = None
    for _ in range(50):
        result = pinned_once()
        if result is not None:
            break
    point(result is True, "who opens beside a `>` under way reads the old value to its end, then the new one", result)
    write("pin", b"old")
    writer = os.open("pin", os.O_WRONLY | os.O_TRUNC)
    reader = os.open("pin", os.O_RDONLY)
    os.write(writer, b"two")
    kinds = [mmap.MAP_PRIVATE] + ([mmap.MAP_SHARED] if linux_has_direct_maps() else [])
    maps = [mmap.mmap(reader, 3, kind, mmap.PROT_READ) for kind in kinds]
    point(all(view[:] == b"two" for view in maps), "who opened beside a > maps the newest value", [view[:] for view in maps])
    os.pwrite(writer, b"2", 0)
    write("pin", b"ABC", os.O_WRONLY)
    point(all(view[:] == b"ABC" for view in maps), "and sees what is put later", [view[:] for view in maps])
    os.close(writer)
    writer = os.open("pin", os.O_WRONLY | os.O_TRUNC)
    os.close(reader)
    first, second = os.open("pin", os.O_RDONLY), os.open("pin", os.O_RDONLY)
    os.write(writer, b"new")
    os.close(writer)
    got = [os.pread(first, 9, 0)]
    os.setxattr("pin", "user.quorumfs.if-timestamp", b"1")
    writer = os.open("pin", os.O_WRONLY)
    got += [error_of(os.write, writer, b"x"), os.pread(second, 9, 0)]
    for fd in (writer, first, second):
        os.close(fd)
    point(got == [b"new", "ESTALE", b"new"], "and who begins to read when it is over the new one at once", got)


def whole(name, data, flags):
    fd = os.open(name, os.O_RDWR | os.O_CREAT | flags, 0o644)
    got = os.pwrite(fd, data, 3), os.pread(fd, len(data), 3)
    os.close(fd)
    return got == (len(data), data)


def refused():
    write("f", b"value")
    point(error_of(os.open, ".", os.O_TMPFILE | os.O_RDWR, 0o600) == "ENOTSUP"
          and error_of(os.open, ".", os.O_TMPFILE | os.O_WRONLY, 0o600) == "ENOTSUP", "O_TMPFILE is refused with EOPNOTSUPP")
    before = sorted(os.listdir("."))

    def whiteout():
        if libc.renameat2(-100, b"f", -100, b"w", 4) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    point(error_of(whiteout) == "EINVAL" and sorted(os.listdir(".")) == before and read("f") == b"value",
          "RENAME_WHITEOUT is refused with EINVAL, and nothing changes")
    clone, source = os.open("clone", os.O_RDWR | os.O_CREAT, 0o644), os.open("f", os.O_RDONLY)
    FICLONE, FIEMAP, GETFLAGS = 0x40049409, 0xC020660B, 0x80086601
    point(error_of(fcntl.ioctl, clone, FICLONE, source) == "ENOTSUP", "files are not cloned")
    point(os.copy_file_range(source, clone, 5) == 5 and read("clone") == b"value", "but copied by copy_file_range")
    point(error_of(fcntl.ioctl, source, FIEMAP, bytes(32)) == "ENOTSUP"
          and error_of(fcntl.ioctl, source, GETFLAGS, bytes(8)) == "ENOTTY", "chattr, lsattr and filefrag are refused")
    point(whole("direct", b"d" * 10001, os.O_DIRECT), "O_DIRECT works, also where nothing is aligned")
    os.close(clone)
    os.close(source)
    huge = os.open("huge", os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(huge, 1 << 62)
    point(os.stat("huge").st_size == 1 << 62 and error_of(os.ftruncate, huge, (1 << 62) + 1) == "EFBIG"
          and error_of(os.pwrite, huge, b"x", 1 << 62) == "EFBIG", "a file has up to 2^62 bytes; beyond it is EFBIG")
    os.close(huge)
    os.symlink("x" * 4095, "longest")
    point(len(os.readlink("longest")) == 4095, "a symbolic link of 4,095 bytes")
    birth = subprocess.run(["stat", "-c", "%w", "f"], stdout=subprocess.PIPE, check=True).stdout.strip()
    point(birth == b"-" and float(os.getxattr("f", "user.quorumfs.birthtime")) > 0,
          "stat(1) has no time of birth; it is an extended attribute")


def watched():
    """inotify tells what is done through the mount; `quorumfs put` comes past it."""
    fd = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(fd, b".", 0x2 | 0x100)  # IN_MODIFY, IN_CREATE
    before = len(events())
    subprocess.check_call([quorumfs, "put", "by-command", "v"], stdout=subprocess.DEVNULL)
    write("by-shell", b"v")
    told, deadline = b"", time.monotonic() + 20
    while b"by-shell" not in told and time.monotonic() < deadline:
        if select.select([fd], [], [], 1)[0]:
            told += os.read(fd, 65536)
    point(b"by-shell" in told and b"by-command" not in told, "inotify tells what is done through the mount", told)
    lines = [line.split(" ", 1)[1] for line in events()[before:]]
    point(lines == ["put by-command", "put by-shell"], "events tells everything", lines)
    os.close(fd)


for part in (puts, attributes, names, not_in_the_store, numbers, readers, refused, watched):
    os.chdir(top)
    part()
print("finished", flush=True)
END
inode=
while read -r line; do
  case $line in
  "ok - "*) ok "${line#ok - }" ;;
  "not ok - "*) not_ok "${line#not ok - }" ;;
  "number "*) inode=${line#number } ;;
  finished) ended=yes ;;
  *) diag "$line" ;;
  esac
done < <(limited 120 python3 "$work/semantics.py" "$mnt" "$QUORUMFS" 2>&1)
is "${ended-}" yes "all was run"
unmount_store
mount_store || exit 1
is "$(stat -c %i "$mnt/c")" "$inode" "a file has the same number at the next mount"

echo settled >"$mnt/settled"
if within 60 is_settled; then ok "what is put is settled by itself"; else not_ok "what is put is settled by itself"; fi

# A listing is complete, or it fails.
mkdir "$mnt/listed"
for i in {1..200}; do echo "$i" >"$mnt/listed/$i"; done
within 60 is_settled
for i in 1 2; do set_state $i down; done
is "$(ls "$mnt/listed" | wc -l)" 200 "with two nodes down a listing is complete"
set_state 3 down
fails_with 2 "Host is down" "a listing that would lack names fails" ls "$mnt/listed"
finish
