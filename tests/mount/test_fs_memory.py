"""test_fs_memory.py FS_MEMORY: the front end alone, over an engine in memory; TAP on standard output.

Changes can be made slow, and the quorum taken away by a signal, so that what a real store does
seldom happens every time: interrupted calls, publications under way, failures between open and write.
"""
import ctypes
import errno
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
WATCHDOG_S = 400

points = 0
failed = 0
work = tempfile.mkdtemp(prefix="quorumfs-fs-memory-")
mnt = os.path.join(work, "mnt")
os.mkdir(mnt)


def check(name, good, info=""):
    global points, failed
    points += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {points} - {name}", flush=True)
    if not good and info != "":
        print(f"# {info}", flush=True)


class Mount:
    """One mount; changes are answered after delay_us."""

    def __init__(self, delay_us=0):
        self.process = subprocess.Popen([sys.argv[1], mnt, str(delay_us)],
                                        stdout=subprocess.PIPE, text=True)
        signal.alarm(WATCHDOG_S)
        if self.process.stdout.readline() != "ready\n":
            sys.exit("Bail out! the mount did not become ready")

    def quorum(self, there):
        self.process.send_signal(signal.SIGUSR2 if there else signal.SIGUSR1)
        wait_for(lambda: (b"quorum     yes" in status()) == there)

    def stop(self):
        """Exit status; what does not end raises."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.stop()


def on_alarm(*unused):
    os.system(f"umount -l {mnt}")
    os._exit(1)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def p(name):
    return os.path.join(mnt, name)


def status():
    with open(p(".quorumfs/status"), "rb") as file:
        return file.read()


def put(name, data, flags=CREATE):
    fd = os.open(p(name), flags, 0o644)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def get(name):
    fd = os.open(p(name), os.O_RDONLY)
    data = b""
    while True:
        piece = os.read(fd, 1 << 20)
        if not piece:
            os.close(fd)
            return data
        data += piece


def error(function, *args):
    """Name of the errno, or None."""
    try:
        function(*args)
    except OSError as failure:
        return errno.errorcode[failure.errno]
    return None


def rename2(old, new, flags):
    if LIBC.renameat2(AT_FDCWD, p(old).encode(), AT_FDCWD, p(new).encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def drop_caches():
    """Makes the kernel forget what is not in use, where this user may."""
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("2")
    except OSError:
        pass


def test_without_quorum(mount):
    put("old", b"value")
    os.mkdir(p("dir"))
    mount.quorum(False)
    for name, call in (("open", lambda: put("old", b"x")), ("create", lambda: put("new", b"x")),
                       ("mkdir", lambda: os.mkdir(p("d2"))), ("unlink", lambda: os.unlink(p("old"))),
                       ("rename", lambda: os.rename(p("old"), p("o2"))),
                       ("chmod", lambda: os.chmod(p("old"), 0o600))):
        check(f"without quorum {name} says EHOSTDOWN", error(call) == "EHOSTDOWN")
    check("without quorum what was there is there",
          get("old") == b"value" and sorted(os.listdir(mnt)) == ["dir", "old"])
    mount.quorum(True)
    check("with the quorum back writes go on at once", put("old", b"value") == 5)

    fds = [os.open(p("old"), os.O_WRONLY | os.O_TRUNC), os.open(p("new"), CREATE),
           os.open(p("never"), CREATE), os.open(p("touched"), os.O_WRONLY | os.O_CREAT)]
    mount.quorum(False)
    check("a write that has no quorum fails itself",
          [error(os.write, fd, b"zz") for fd in fds[:2]] == ["EHOSTDOWN"] * 2)
    for fd in fds:
        os.close(fd)
    check("a failed overwrite leaves the old value",
          get("old") == b"value" and os.stat(p("old")).st_size == 5)
    check("a failed creation leaves no name", wait_for(
        lambda: [error(os.stat, p(n)) for n in ("new", "never", "touched")] == ["ENOENT"] * 3))
    mount.quorum(True)
    fd = os.open(p("old"), os.O_WRONLY | os.O_TRUNC)
    mount.quorum(False)
    error(os.write, fd, b"first")
    mount.quorum(True)
    os.write(fd, b"2")
    os.close(fd)
    check("after a failed write the next one stands on its own and replaces", get("old") == b"2")


def test_truncation(mount):
    put("k", b"old")
    fd = os.open(p("k"), os.O_WRONLY | os.O_TRUNC)
    check("an open O_TRUNC handle shows the published size", os.stat(p("k")).st_size == 3)
    put("k", b"app", os.O_WRONLY | os.O_APPEND)
    os.close(fd)
    check("an append after the truncation builds on nothing", get("k") == b"app")
    fd = os.open(p("k"), os.O_WRONLY | os.O_TRUNC)
    os.chmod(p("k"), 0o600)
    os.close(fd)
    check("chmod beside a truncation keeps both",
          get("k") == b"" and os.stat(p("k")).st_mode & 0o777 == 0o600)
    put("k", b"abc")
    fd = os.open(p("k"), os.O_WRONLY | os.O_TRUNC)
    os.rename(p("k"), p("moved"))
    os.write(fd, b"1")
    os.close(fd)
    check("a truncated file can be renamed while it is open",
          get("moved") == b"1" and error(os.stat, p("k")) == "ENOENT")
    lost = 0
    for i in range(1000):
        os.close(os.open(p("k"), CREATE, 0o644))
        put("k", b"%d" % i)
        lost += get("k") != b"%d" % i
    check("`: > k; echo x > k` loses no echo", lost == 0, lost)
    fd = os.open(p("k"), os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    os.write(fd, b"a")
    os.write(fd, b"b")
    os.close(fd)
    check("O_TRUNC with O_APPEND begins anew", get("k") == b"ab")


def test_pending_creation(mount):
    before = os.stat(mnt).st_mtime_ns
    fd = os.open(p("new"), os.O_WRONLY | os.O_CREAT, 0o644)
    check("a created file is listed before it is written", "new" in os.listdir(mnt))
    check("its directory has a new mtime", os.stat(mnt).st_mtime_ns > before)
    check("O_EXCL finds it", error(os.open, p("new"), os.O_CREAT | os.O_EXCL) == "EEXIST")
    os.unlink(p("new"))
    os.write(fd, b"zz")
    state = os.fstat(fd)
    check("it can be unlinked and written", (state.st_size, state.st_nlink) == (2, 0))
    os.close(fd)
    check("... and is gone", "new" not in os.listdir(mnt))
    os.mkdir(p("dir"))
    fd = os.open(p("dir/new"), os.O_WRONLY | os.O_CREAT, 0o644)
    check("its directory is not empty", error(os.rmdir, p("dir")) == "ENOTEMPTY")
    os.close(fd)
    check("an unwritten file is published at close",
          wait_for(lambda: os.listdir(p("dir")) == ["new"]) and get("dir/new") == b"")
    os.unlink(p("dir/new"))
    os.rmdir(p("dir"))


def test_open_files_without_name(mount):
    big = random.Random(1).randbytes(300000)
    put("u", big)
    fd = os.open(p("u"), os.O_RDWR)
    os.unlink(p("u"))
    os.pwrite(fd, b"AAAA", 100)
    check("an unlinked open file is readable and writable",
          os.pread(fd, 400000, 0) == big[:100] + b"AAAA" + big[104:])
    put("u", b"other")
    check("a file made under its old name is another one",
          os.fstat(fd).st_ino != os.stat(p("u")).st_ino and get("u") == b"other")
    os.close(fd)
    put("target", big)
    put("source", b"source")
    reader, writer = os.open(p("target"), os.O_RDONLY), os.open(p("target"), os.O_WRONLY)
    os.rename(p("source"), p("target"))
    check("a file that was renamed over stays readable where it is open",
          os.pread(reader, 400000, 0) == big and get("target") == b"source")
    os.pwrite(writer, b"12", 1)
    check("... and is written to", os.pread(reader, 4, 0) == big[:1] + b"12" + big[3:4] and get("target") == b"source")
    os.close(reader)
    os.close(writer)


def test_inode_numbers(mount):
    put("i", b"1")
    number = os.stat(p("i")).st_ino
    os.rename(p("i"), p("j"))
    check("rename keeps the inode number", os.stat(p("j")).st_ino == number)
    put("i", b"2")
    check("a new file under the old name has another", os.stat(p("i")).st_ino != number)
    listed = {entry.name: entry.inode() for entry in os.scandir(mnt)}
    check("listing and stat agree", all(os.lstat(p(n)).st_ino == i for n, i in listed.items()))
    drop_caches()
    check("... also after the kernel forgot them",
          all(os.lstat(p(n)).st_ino == i for n, i in listed.items()))


def test_cached_readers(mount):
    put("c", b"a" * 10000)
    fd = os.open(p("c"), os.O_RDONLY)
    shared = mmap.mmap(fd, 10000, mmap.MAP_SHARED, mmap.PROT_READ)
    private = mmap.mmap(fd, 10000, mmap.MAP_PRIVATE, mmap.PROT_READ)
    stale = 0
    for i in range(200):
        letter = bytes([97 + i % 26])
        writer = os.open(p("c"), os.O_WRONLY | (os.O_TRUNC if i % 2 else 0))
        os.pwrite(writer, letter * 10000, 0)
        os.close(writer)
        stale += (os.pread(fd, 1, 7000) != letter or shared[1:2] != letter or
                  private[9000:9001] != letter)
    check("open readers and maps see every write that returned", stale == 0, stale)
    for i in range(200):
        put("c", b"%d" % i, os.O_WRONLY | os.O_APPEND)
        stale += os.pread(fd, 100, os.fstat(fd).st_size - len(b"%d" % i)) != b"%d" % i
    check("... and every append", stale == 0, stale)
    shared.close()
    private.close()
    os.close(fd)
    fd = os.open(p("rw"), os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, 8192)
    shared = mmap.mmap(fd, 8192)
    shared[0:4] = b"abcd"
    put("rw", b"tail", os.O_WRONLY | os.O_APPEND)
    shared[4096:4100] = b"efgh"
    shared.flush()
    data = get("rw")
    check("a shared writable map and an append go together",
          (data[:4], data[4096:4100], data[8192:]) == (b"abcd", b"efgh", b"tail"))
    shared.close()
    os.close(fd)


def test_pinned_readers(_mount):
    """Opened beside a replacing writer: one version, of the first read, to its end."""
    old, new = b"o" * 300000, b"n" * 200000
    for _ in range(50):
        put("p", old)
        writer = os.open(p("p"), os.O_WRONLY | os.O_TRUNC)
        start = time.monotonic()
        reader, late = os.open(p("p"), os.O_RDONLY), os.open(p("p"), os.O_RDONLY)
        begun = os.read(reader, 100000)
        os.write(writer, new)
        begun += os.read(reader, 400000)
        whole = os.pread(late, 400000, 0)
        paused = time.monotonic() - start > 0.5  # whoever pauses for a second has lost the old value
        for fd in (writer, reader, late):
            os.close(fd)
        if not paused:
            break
    check("who has begun to read goes on with what it began", begun == old)
    check("who opened before a value of several writes reads the old one", whole == old)
    writer = os.open(p("p"), os.O_WRONLY | os.O_TRUNC)
    readers = [os.open(p("p"), os.O_RDONLY) for _ in range(2)]
    os.write(writer, old)
    os.close(writer)
    check("who has not begun when that is over reads the new value", os.pread(readers[0], 400000, 0) == old)
    put("p", new)
    check("... or one that came after it", os.pread(readers[1], 400000, 0) == new)
    for reader in readers:
        os.close(reader)


def test_names(mount):
    put("a", b"1")
    put("b", b"2")
    check("RENAME_NOREPLACE spares the target", error(rename2, "a", "b", RENAME_NOREPLACE) == "EEXIST")
    check("RENAME_EXCHANGE is refused", error(rename2, "a", "b", RENAME_EXCHANGE) == "EINVAL")
    check("an engine without links refuses them", error(os.link, p("a"), p("l")) == "EINVAL")
    check("a name of 256 bytes is too long", error(os.stat, p("n" * 256)) == "ENAMETOOLONG")
    check(".quorumfs is taken", error(os.mkdir, p(".quorumfs")) == "EEXIST" and
          ".quorumfs" not in os.listdir(mnt))
    os.mkfifo(p("fifo"))
    os.mknod(p("null"), 0o20600, os.makedev(1, 3))
    check("special files keep type and number", os.stat(p("null")).st_rdev == os.makedev(1, 3))
    os.mkdir(p("group"))
    os.chown(p("group"), -1, 5)
    os.chmod(p("group"), 0o2775)
    put("group/f", b"")
    os.mkdir(p("group/d"))
    check("a set-gid directory passes its group on", os.stat(p("group/f")).st_gid == 5 and
          os.stat(p("group/d")).st_mode & 0o2000 and os.stat(p("group/d")).st_gid == 5)
    os.utime(p("a"), ns=(-5, 123456789123456789))
    state = os.stat(p("a"))
    check("times are exact to the nanosecond",
          (state.st_atime_ns, state.st_mtime_ns) == (-5, 123456789123456789))


def test_listing(mount):
    count = 3000
    os.mkdir(p("big"))
    for i in range(count):
        os.mknod(p(f"big/{i:05d}"), 0o100644)
    LIBC.opendir.restype = ctypes.c_void_p
    LIBC.readdir.restype = ctypes.c_void_p
    LIBC.telldir.restype = ctypes.c_long
    for function in (LIBC.readdir, LIBC.telldir, LIBC.rewinddir, LIBC.closedir):
        function.argtypes = [ctypes.c_void_p]
    LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

    def following(stream):
        entry = LIBC.readdir(stream)
        return ctypes.string_at(entry + 19).decode() if entry else None  # offset of d_name

    stream = LIBC.opendir(p("big").encode())
    names, places = [], []
    while True:
        places.append(LIBC.telldir(stream))
        names.append(following(stream))
        if names[-1] is None:
            break
    check("a large directory lists each name once",
          len(names) == count + 3 and names[:2] == [".", ".."] and len(set(names)) == count + 3)
    wrong = 0
    for i in random.Random(2).sample(range(count), 100):
        LIBC.seekdir(stream, places[i])
        wrong += following(stream) != names[i]
    check("telldir and seekdir", wrong == 0, wrong)
    wrong = 0
    for i in (1700, 520, 1024, 1023, 2, 2900):  # pages that are read ahead are of no use then
        LIBC.seekdir(stream, places[i])
        wrong += [following(stream) for _ in range(count + 3 - i)] != names[i:]
    check("from each place the rest is listed to the end", wrong == 0, wrong)
    LIBC.rewinddir(stream)
    for _ in range(1100):
        following(stream)
    LIBC.rewinddir(stream)
    check("rewinddir in the middle", [following(stream) for _ in range(count + 3)] == names)
    LIBC.rewinddir(stream)
    for _ in range(1600):
        following(stream)
    new = [f"00100.{i}" for i in range(300)]
    for name in new:
        os.mknod(p("big/" + name), 0o100644)
    LIBC.seekdir(stream, places[50])
    rest = [following(stream) for _ in range(count + 3 - 50 + len(new))]
    check("after seekdir names that came meanwhile hide no others",
          [name for name in rest if name not in new] == names[50:], len(set(names[50:]) - set(rest)))
    for name in new:
        os.unlink(p("big/" + name))
    LIBC.rewinddir(stream)
    removed = 0
    while (name := following(stream)) is not None:
        if name not in (".", ".."):
            os.unlink(p("big/" + name))
            removed += 1
    LIBC.closedir(stream)
    check("removing while listing skips nothing", removed == count and os.listdir(p("big")) == [])

    for i in range(400):
        os.mknod(p(f"big/{i:03d}"), 0o100644)
    scan = os.scandir(p("big"))
    next(scan)
    for i in range(200, 400):
        os.unlink(p(f"big/{i:03d}"))
    drop_caches()
    list(scan)
    check("an old page of a listing brings no removed name back",
          all(error(os.stat, p(f"big/{i:03d}")) == "ENOENT" for i in range(200, 400)))
    shutil.rmtree(p("big"))
    check("rm -r removes everything", "big" not in os.listdir(mnt))


def test_reading_ahead(mount):
    """Behind the first page of 512 the next one is read ahead: what changes meanwhile must be seen all the same."""
    count = 3000
    os.mkdir(p("big"))
    for i in range(count):
        os.mknod(p(f"big/{i:05d}"), 0o100644)
    scan = os.scandir(p("big"))
    seen = [next(scan).name for _ in range(600)]
    time.sleep(0.1)  # the entries from 1024 on are here
    gone = [f"{i:05d}" for i in range(1030, 1530, 50)]
    for name in gone:
        os.unlink(p("big/" + name))
    os.rename(p("big/01031"), p("big/01032a"))
    os.mkdir(p("big/01033a"))
    put("big/01100", b"changed")
    fd = os.open(p("big/01101a"), CREATE)  # not published
    drop_caches()
    sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in scan}
    expected = sorted({f"{i:05d}" for i in range(count)} - set(gone) - {"01031"} | {"01032a", "01033a", "01101a"})
    check("what came, went and moved while a page was read ahead is listed as it is", seen + list(sizes) == expected,
          set(seen + list(sizes)) ^ set(expected))
    check("with the attributes of now", sizes["01100"] == 7)
    check("nothing that went comes back", all(error(os.stat, p("big/" + name)) == "ENOENT" for name in gone))
    os.close(fd)

    scan = os.scandir(p("big"))
    for _ in range(600):
        next(scan)
    check("a listing that is given up in the middle", scan.close() is None)
    shutil.rmtree(p("big"))


def overwrite(path, letters, size, pieces, end):
    i = 0
    while time.monotonic() < end:
        value = letters[i % len(letters)].encode() * size
        fd = os.open(path, CREATE, 0o644)
        for _ in range(pieces):
            os.write(fd, value)
        os.close(fd)
        i += 1


def watch(path, size, end, results):
    """Who pauses in the middle of a value may go on in a newer one: such a read tells nothing."""
    empty = mixed = reads = 0
    while time.monotonic() < end or not reads:
        begin = time.monotonic()
        data = get(path)
        if time.monotonic() - begin > 0.1:
            continue
        reads += 1
        empty += not data
        mixed += len(data) not in (0, size) or len(set(data)) > 1
    results.put((reads, empty, mixed))


def test_readers_and_writers(mount):
    for size in (6, 100000, 900000):
        path = f"rw{size}"
        put(path, b"A" * size)
        end = time.monotonic() + 2
        results = multiprocessing.Queue()
        workers = [multiprocessing.Process(target=overwrite, args=(p(path), letters, size, 1, end))
                   for letters in ("ABC", "xyz")]
        workers += [multiprocessing.Process(target=watch, args=(path, size, end, results))
                    for _ in range(2)]
        for worker in workers:
            worker.start()
        reads, empty, mixed = map(sum, zip(*(results.get(timeout=60) for _ in range(2))))
        for worker in workers:
            worker.join()
        check(f"values of {size} bytes are read whole while two processes overwrite them",
              reads > 0 and empty == 0 and mixed == 0, (reads, empty, mixed))


def test_appenders(mount):
    def append(number):
        for i in range(100):
            put("log", b"%d %d\n" % (number, i), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    workers = [multiprocessing.Process(target=append, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    check("eight appenders lose nothing", len(set(get("log").splitlines())) == 800)


def interrupted(function, *args):
    """errno of a call in a process that catches SIGINT, again and again until one meets the call."""
    handler = signal.signal(signal.SIGINT, lambda *unused: None)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if function(*args) >= 0 else ctypes.get_errno())
    signal.signal(signal.SIGINT, handler)
    ended = 0
    while not ended:
        time.sleep(0.1)
        os.kill(pid, signal.SIGINT)
        ended, status = os.waitpid(pid, os.WNOHANG)
    return errno.errorcode.get(os.waitstatus_to_exitcode(status))


def disturbed(signals, function, *args):
    """errno of a call in a process that gets these signals, several times, meanwhile."""
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGCHLD, signal.SIGALRM, signal.SIGURG, signal.SIGUSR1):
            signal.signal(number, lambda *unused: None)
        os._exit(0 if function(*args) >= 0 else ctypes.get_errno())
    for _ in range(5):
        for number in signals:
            time.sleep(0.3)
            os.kill(pid, number)
    return errno.errorcode.get(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def test_slow_engine():
    with Mount(4000000) as mount:
        result = interrupted(LIBC.mkdir, p("d").encode(), 0o755)
        check("SIGINT ends a waiting call", result == "EINTR", result)
        check("what it asked for is seen when it happens after all",
              wait_for(lambda: os.path.isdir(p("d"))))

        def write():
            return LIBC.write(os.open(p("k"), CREATE, 0o644), b"hello", 5)

        result = interrupted(write)
        check("SIGINT ends a waiting write", result == "EINTR", result)
        check("... whose value appears later", wait_for(lambda: os.path.exists(p("k")) and
                                                        get("k") == b"hello"))
        result = disturbed((signal.SIGSTOP, signal.SIGCONT), LIBC.mkdir, p("stopped").encode(), 0o755)
        check("who is stopped in a call gets its answer", result is None and os.path.isdir(p("stopped")), result)
        result = disturbed((signal.SIGCHLD, signal.SIGALRM, signal.SIGURG, signal.SIGUSR1), LIBC.mkdir, p("signalled").encode(), 0o755)
        check("who handles other signals meanwhile gets its answer", result is None and os.path.isdir(p("signalled")), result)
        fd = os.open(p("pending"), CREATE, 0o644)
        check("a reader of an unwritten new file does not wait for ever", get("pending") == b"")
        took = []
        for _ in range(50):
            begin = time.monotonic()
            get("pending")
            took.append(time.monotonic() - begin)
        check("... and the next ones do not wait, as the quickest of them shows", min(took) < 0.015, took)
        writer = threading.Thread(target=os.write, args=(fd, b"v"))
        writer.start()
        time.sleep(0.1)
        size = os.stat(p("pending")).st_size
        check("the size is the published one", size == 0 or not writer.is_alive())
        writer.join()
        os.close(fd)
        os.close(os.open(p("pending"), os.O_WRONLY | os.O_TRUNC))
        waiting = [threading.Thread(target=error, args=(os.stat, p("pending"))) for _ in range(3)]
        waiting.append(threading.Thread(target=error, args=(os.mkdir, p("late"))))
        for thread in waiting:
            thread.start()
        time.sleep(0.1)
        result = mount.stop()
        for thread in waiting:
            thread.join(30)
        check("calls that wait do not hold up the end",
              result == 0 and not any(t.is_alive() for t in waiting), result)
        check("it is unmounted", not os.path.ismount(mnt))


def test_ends():
    with Mount() as mount:
        fds = [os.open(p("a"), CREATE, 0o644), os.open(p("b"), os.O_RDWR | os.O_CREAT),
               os.open(mnt, os.O_RDONLY)]
        check("SIGTERM with open files ends it", mount.stop() == 0)
        for fd in fds:
            error(os.close, fd)
    with Mount() as mount:
        check("umount ends it", subprocess.call(["umount", mnt]) == 0 and mount.process.wait(60) == 0)
    with Mount() as mount:
        fd = os.open(p("a"), CREATE, 0o644)
        subprocess.call(["umount", "-l", mnt])
        os.write(fd, b"1")
        check("after a lazy umount open files work", mount.process.poll() is None)
        os.close(fd)
        check("... and the last close ends it", mount.process.wait(60) == 0)


def main():
    signal.signal(signal.SIGALRM, on_alarm)
    for delay_us in (0, 500):
        print(f"# changes take {delay_us} us")
        for test in (test_without_quorum, test_truncation, test_pending_creation,
                     test_open_files_without_name, test_inode_numbers, test_cached_readers,
                     test_pinned_readers, test_names, test_listing, test_reading_ahead, test_readers_and_writers, test_appenders):
            with Mount(delay_us) as mount:
                test(mount)
                result = mount.stop()
                check(f"{test.__name__[5:].replace('_', ' ')}: a clean end", result == 0, result)
    test_slow_engine()
    test_ends()
    signal.alarm(0)
    os.rmdir(mnt)
    os.rmdir(work)
    print(f"1..{points}")
    return 1 if failed else 0


sys.exit(main())
