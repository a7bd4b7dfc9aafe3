"""Prints what a filesystem answers to operations on files with several names; run in two directories, and compared."""
import ctypes
import errno
import mmap
import os
import stat
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2


def told(name, function, *args, **more):
    try:
        print(name, function(*args, **more))
    except OSError as e:
        print(name, errno.errorcode[e.errno])


def rename2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "")


def put(name, data):
    with open(name, "wb") as f:
        f.write(data)


def get(name):
    with open(name, "rb") as f:
        return f.read()


def count(name):
    return os.lstat(name).st_nlink


def same(*names):
    return len({os.lstat(name).st_ino for name in names}) == 1


def pause():
    time.sleep(0.02)  # the kernel's clock of ext4 ticks every 4 ms: what is told apart must be further apart


def changed(name, field, function, *args):
    before = getattr(os.lstat(name), field)
    pause()
    function(*args)
    return getattr(os.lstat(name), field) > before


def names():
    put("a", b"one")
    told("link", os.link, "a", "b")
    print("count", count("a"), count("b"), same("a", "b"), get("b"))
    os.mkdir("d")
    os.link("b", "d/c")
    put("d/c", b"two")
    print("through one", get("a"), get("b"), count("a"), os.stat("a").st_size)
    with open("a", "ab") as f:
        f.write(b" more")
        f.flush()
        print("appended", get("d/c"))
    os.chmod("b", 0o600)
    os.utime("d/c", ns=(10 ** 18, 10 ** 18 + 7))
    print("attributes", oct(os.stat("a").st_mode), os.stat("b").st_mtime_ns)
    os.setxattr("a", "user.x", b"v")
    print("xattr", os.getxattr("d/c", "user.x"))
    os.truncate("b", 2)
    print("truncated", get("a"))
    print("ctime by link", changed("a", "st_ctime_ns", os.link, "a", "e"))
    print("ctime by unlink", changed("a", "st_ctime_ns", os.unlink, "e"))
    print("mtime not", changed("a", "st_mtime_ns", os.link, "a", "e"))
    print("directory", changed(".", "st_mtime_ns", os.link, "a", "f"))
    os.unlink("a")
    print("one less", count("b"), get("d/c"))
    put("a", b"other")
    print("new of the name", same("a", "b"), count("a"), get("b"))
    inode = os.lstat("b").st_ino
    print("listed", sorted(e.name for e in os.scandir(".") if e.inode() == inode), [e.name for e in os.scandir("d") if e.inode() == inode])
    for name in ("b", "e", "f"):
        os.unlink(name)
    print("last", count("d/c"), get("d/c"))
    os.unlink("d/c")
    print("gone", os.listdir("d"))


def refused():
    put("a", b"one")
    put("b", b"two")
    os.mkdir("d")
    told("directory", os.link, "d", "e")
    told("there", os.link, "a", "b")
    told("itself", os.link, "a", "a")
    told("over a directory", os.link, "a", "d")
    told("absent", os.link, "x", "e")
    told("no directory", os.link, "a", "x/e")
    told("below a file", os.link, "a", "b/e")
    told("other filesystem", os.link, "/proc/self/status", "e")
    told("too long", os.link, "a", "n" * 256)
    fd = os.open("a", os.O_RDWR)
    os.unlink("a")
    told("unlinked", os.link, "/proc/self/fd/%d" % fd, "e", follow_symlinks=True)
    os.close(fd)


def special():
    os.symlink("nowhere", "s")
    os.link("s", "s2", follow_symlinks=False)
    print("symlink", os.readlink("s2"), count("s"), same("s", "s2"))
    os.unlink("s")
    print("left", os.readlink("s2"), count("s2"))
    os.mkfifo("p")
    os.link("p", "p2")
    print("fifo", stat.S_ISFIFO(os.lstat("p2").st_mode), count("p"))
    put("v", b"v")
    os.symlink("v", "t")
    os.link("t", "followed", follow_symlinks=True)
    print("followed", get("followed"), count("v"))


def renames():
    put("a", b"one")
    os.link("a", "b")
    put("p", b"plain")
    told("to itself", os.rename, "a", "b")
    print("both there", sorted(os.listdir(".")), count("a"))
    told("noreplace", rename2, "a", "b", NOREPLACE)
    told("exchanged with itself", rename2, "a", "b", EXCHANGE)
    print("ctime", changed("b", "st_ctime_ns", os.rename, "a", "c"))
    print("renamed", same("b", "c"), count("c"))
    rename2("c", "p", EXCHANGE)
    print("exchanged", get("c"), get("p"), same("b", "p"), count("c"), count("p"))
    os.rename("c", "p")
    print("over", get("p"), count("p"), get("b"), count("b"))
    os.rename("p", "b")
    print("over the last", get("b"), count("b"), os.listdir("."))
    put("x", b"x")
    os.link("x", "y")
    os.link("b", "b2")
    os.rename("x", "b")
    print("link over link", get("b"), count("b"), get("b2"), count("b2"), same("b", "y"))
    rename2("b", "b2", EXCHANGE)
    print("links exchanged", same("b2", "y"), count("b2"), count("b"), get("b"))
    os.mkdir("d")
    os.mkdir("d/e")
    os.link("y", "d/e/z")
    os.rename("d", "m")
    put("m/e/z", b"in the tree")
    print("tree", get("y"), count("m/e/z"), same("y", "m/e/z"))
    os.unlink("y")
    print("tree", get("m/e/z"), count("m/e/z"), get("b2"))


def opened():
    put("a", b"one")
    os.link("a", "b")
    fd = os.open("a", os.O_RDWR)
    os.unlink("a")
    print("open", os.fstat(fd).st_nlink, os.pread(fd, 9, 0))
    os.pwrite(fd, b"ONE", 0)
    print("written", get("b"))
    os.unlink("b")
    os.pwrite(fd, b"more", 3)
    print("without names", os.fstat(fd).st_nlink, os.pread(fd, 9, 0))
    os.close(fd)
    put("c", b"old")
    put("d", b"new")
    writer, reader = os.open("c", os.O_WRONLY | os.O_APPEND), os.open("c", os.O_RDONLY)
    both = os.open("c", os.O_RDWR)
    os.rename("d", "c")
    print("replaced", os.write(writer, b"er"), os.pread(reader, 9, 0), get("c"), os.fstat(reader).st_nlink)
    os.pwrite(both, b"O", 0)
    os.ftruncate(both, 4)
    os.fchmod(both, 0o640)
    print("goes on", os.pread(reader, 9, 0), oct(os.fstat(reader).st_mode), os.fstat(writer).st_size)
    for fd in (writer, reader, both):
        os.close(fd)
    put("e", b"mapped...")
    put("f", b"new")
    fd = os.open("e", os.O_RDWR)
    memory = mmap.mmap(fd, 9)
    os.rename("f", "e")
    memory[0:3] = b"MAP"
    memory.flush()
    print("map of a replaced file", os.pread(fd, 9, 0), get("e"))
    memory.close()
    os.close(fd)
    put("g", b"one")
    os.link("g", "h")
    put("i", b"new")
    fd = os.open("g", os.O_RDWR)
    os.rename("i", "g")
    os.pwrite(fd, b"O", 0)
    print("a name replaced", get("h"), get("g"), os.fstat(fd).st_nlink)
    os.close(fd)
    a, b = os.open("h", os.O_RDWR), None
    os.link("h", "j")
    b = os.open("j", os.O_RDWR)
    map_a, map_b = mmap.mmap(a, 3), mmap.mmap(b, 3)
    map_a[1] = ord("X")
    print("one page cache", map_b[:], os.pread(b, 3, 0))
    map_a.close()
    map_b.close()
    os.close(a)
    os.close(b)


for part in (names, refused, special, renames, opened):
    os.mkdir(part.__name__)
    os.chdir(part.__name__)
    print("--", part.__name__)
    part()
    os.chdir("..")
