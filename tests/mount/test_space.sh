#!/usr/bin/env bash
# Goal: fallocate, holes and where they are, copy_file_range: as on other filesystems, against a model in memory; and
# holes take no space.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000

mount_store nodes=3,replicas=3 || exit 1
chunk_bytes() { sql 1 "select coalesce(sum(length(data)), 0) from chunk"; }

cat >"$work/space.py" <<'END'
import ctypes, errno, os, random, sys

libc = ctypes.CDLL("libc.so.6", use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
libc.copy_file_range.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t,
                                 ctypes.c_uint]
libc.copy_file_range.restype = ctypes.c_ssize_t
KEEP, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
n = 0


def point(ok, name):
    print(("ok" if ok else "not ok"), "-", name, flush=True)


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, offset, length) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def error_of(f, *args):
    try:
        f(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "none"


def holes_agree(fd, model):
    """The whole map: what is said to be a hole is zeros, data and holes take turns up to the end."""
    size, at = len(model), 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            data = size if e.errno == errno.ENXIO else -1
        if data < at or any(model[at:data]):
            return False
        if data == size:
            return True
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        if hole <= data or hole > size:
            return False
        at = hole
    return True


def exercise(path, flags, seed, steps, room):
    rand = random.Random(seed)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    fd = os.open(path, flags)
    other = os.open(path, os.O_RDONLY)
    model = bytearray()
    for step in range(steps):
        what = rand.choice(["write", "write", "punch", "zero", "zero-keep", "grow", "keep", "truncate"])
        offset, length = rand.randrange(room), rand.choice([1, 100, 5000, 65536, 150000])
        length = rand.randrange(1, length + 1)
        end = offset + length
        if rand.random() < 0.3:
            offset -= offset % 65536
            end = offset + length
        inside = max(0, min(end, len(model)) - offset)
        if what == "write":
            data = rand.randbytes(length)
            os.pwrite(fd, data, offset)
            model.extend(bytes(max(0, end - len(model))))
            model[offset:end] = data
        elif what == "punch" or what == "zero-keep":
            fallocate(fd, KEEP | (PUNCH if what == "punch" else ZERO), offset, length)
            model[offset:offset + inside] = bytes(inside)
        elif what == "zero":
            fallocate(fd, ZERO, offset, length)
            model.extend(bytes(max(0, end - len(model))))
            model[offset:end] = bytes(length)
        elif what == "grow":
            fallocate(fd, 0, offset, length)
            model.extend(bytes(max(0, end - len(model))))
        elif what == "keep":
            fallocate(fd, KEEP, offset, length)
        else:
            os.ftruncate(fd, offset)
            del model[offset:]
            model.extend(bytes(offset - len(model)))
        if os.fstat(fd).st_size != len(model) or os.pread(other, len(model) + 1, 0) != bytes(model):
            return "step %d: %s %d+%d" % (step, what, offset, length)
        if rand.random() < 0.3 and not holes_agree(other, model):
            return "step %d: holes after %s" % (step, what)
    os.close(fd)
    os.close(other)
    os.unlink(path)
    return ""


os.chdir(sys.argv[1])
for flags, name in ((os.O_RDWR, "both"), (os.O_WRONLY, "writing")):
    for seed in range(6):
        room = (2000, 100000, 600000)[seed % 3]
        wrong = exercise("random", flags, seed, 150, room)
        point(wrong == "", "bytes, size and holes of a file opened for %s, seed %d %s" % (name, seed, wrong))

fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
point(error_of(os.lseek, fd, 0, os.SEEK_DATA) == "ENXIO" and error_of(os.lseek, fd, 0, os.SEEK_HOLE) == "ENXIO",
      "an empty file has neither bytes nor holes")
os.pwrite(fd, b"x" * 300000, 0)
point(os.lseek(fd, 5, os.SEEK_DATA) == 5 and os.lseek(fd, 5, os.SEEK_HOLE) == 300000,
      "of a file without holes the hole is at its end")
point(error_of(os.lseek, fd, 300000, os.SEEK_HOLE) == "ENXIO", "there is nothing beyond the end")
point(error_of(fallocate, fd, COLLAPSE, 0, 65536) == "ENOTSUP"
      and error_of(fallocate, fd, INSERT, 0, 65536) == "ENOTSUP", "collapsing and inserting are refused")
point(error_of(fallocate, fd, PUNCH, 0, 1) == "ENOTSUP", "a hole is made only with the size kept")
read_only = os.open("f", os.O_RDONLY)
point(error_of(fallocate, read_only, 0, 0, 1) == "EBADF", "through a descriptor for reading nothing is changed")
point(error_of(fallocate, fd, 0, 0, 0) == "EINVAL", "a length of 0 is refused")
before = os.fstat(fd)
fallocate(fd, KEEP | PUNCH, 100, 100)
after = os.fstat(fd)
point(after.st_mtime_ns > before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns, "a hole changes the times")
map_fd = os.open("map", os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(map_fd, b"m" * 200000, 0)
import mmap
view = mmap.mmap(map_fd, 200000)
seen = view[70000] == ord("m")
fallocate(map_fd, KEEP | PUNCH, 65536, 65536)
point(seen and view[70000] == 0 and view[131072] == ord("m"), "a hole is seen through a mapping")
stored = os.open("stored", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(stored, 200000)
pages = mmap.mmap(stored, 200000)
pages[100000] = 1
point(error_of(os.lseek, stored, 0, os.SEEK_DATA) == "none" and os.lseek(stored, 0, os.SEEK_DATA) <= 100000,
      "what was stored through a mapping is no hole, though nothing was synced")
os.chmod("f", 0o4755)
fallocate(fd, 0, 0, 400000)
point(os.fstat(fd).st_size == 400000, "posix_fallocate extends")
target = os.open("copy", os.O_RDWR | os.O_CREAT, 0o644)
at = ctypes.c_long(0)
point(libc.copy_file_range(fd, ctypes.byref(at), target, None, 300000, 0) == 300000
      and os.pread(target, 300000, 0) == os.pread(fd, 300000, 0), "copy_file_range copies")
point(error_of(os.lseek, os.open(".quorumfs/status", os.O_RDONLY), 0, os.SEEK_DATA) == "EINVAL",
      "control files have no map of holes")
sparse = os.open("sparse", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(sparse, 1 << 40)
os.pwrite(sparse, b"data", 1 << 39)
point(os.lseek(sparse, 0, os.SEEK_DATA) == 1 << 39 and os.lseek(sparse, 1 << 39, os.SEEK_HOLE) == (1 << 39) + 4096,
      "four bytes are found in a terabyte of nothing")
fallocate(sparse, KEEP | PUNCH, 0, 1 << 40)
point(error_of(os.lseek, sparse, 0, os.SEEK_DATA) == "ENXIO" and os.fstat(sparse).st_size == 1 << 40,
      "and punched out")
fallocate(sparse, ZERO, 0, 1 << 41)
point(os.fstat(sparse).st_size == 1 << 41 and os.pread(sparse, 4, 1 << 39) == bytes(4), "a long range of zeros")
END
while read -r line; do
  case $line in
  "ok - "*) ok "${line#ok - }" ;;
  "not ok - "*) not_ok "${line#not ok - }" ;;
  *) diag "$line" ;;
  esac
done < <(limited 200 python3 "$work/space.py" "$mnt" 2>&1 || echo "not ok - the program ended with $?")

rm -f "$mnt"/*
"$QUORUMFS" gc "$mnt" >/dev/null
within 60 eval '[ "$(chunk_bytes)" = 0 ]'
head -c 8000000 /dev/urandom >"$mnt/big"
nearly_all_bytes() { [ "$(chunk_bytes)" -ge 7900000 ]; }
if within 60 nearly_all_bytes; then ok "bytes take space, but for a tail"; else not_ok "bytes take space, but for a tail" "$(chunk_bytes)"; fi
fallocate -p -o 0 -l 7000000 "$mnt/big"
less_than_a_chunk_more() { [ "$(chunk_bytes)" -le 1065536 ]; }
if within 60 less_than_a_chunk_more; then ok "holes give it back"; else not_ok "holes give it back" "$(chunk_bytes)"; fi
is "$(head -c 7000000 "$mnt/big" | tr -d '\0' | wc -c)" 0 "and read as zeros"
for i in 1 2; do set_state $i down; done
fails_with 1 "Host is down" "without a quorum it fails" fallocate -p -o 0 -l 8000000 "$mnt/big"
finish
