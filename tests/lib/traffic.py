#!/usr/bin/env python3
"""traffic.py - writers of several kinds in a mount, and what may be found there after a fault.

    traffic.py MOUNTPOINT crash|power|sync SEED

reads commands from standard input and answers each with one line:

    prepare                makes the directories of the writers
    round PID OPERATIONS   runs all writers until so many operations were acknowledged, then kills PID with signal 9
                           in the middle of it; PID 0: until the mount dies by itself, or so many
    verify                 everything that was acknowledged is there, nothing else, nothing mixed: "good N" or "bad N";
                           what was wrong goes to standard error

What counts as acknowledged:
    crash   every operation that returned success (the daemon is killed, the machine goes on)
    sync    the same (the power fails, the store is mounted with -o sync)
    power   what fsync(2), of the file or of the directory, or a write with O_SYNC or O_DSYNC, returned success for (the
            power fails). What was not
            synced may be there or not, but only as one of the versions since the synced one.

A subject is one key or two that change together. It keeps the states that it may be in: the one that is certain
first, the latest last. Only one thread writes a subject, except the shared log and the names that are made with
O_EXCL.
"""
import errno
import hashlib
import os
import random
import re
import signal
import sys
import threading

MODE = "crash"
ROOT = ""
ABSENT = None
DIRECTORY = "directory"


def digest(data):
    return hashlib.blake2b(data, digest_size=12).hexdigest() + f":{len(data)}"


def path_of(name):
    return os.path.join(ROOT, name)


def look(name):
    """What a key holds, to compare with what was written."""
    path = path_of(name)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return ABSENT
    try:
        parts = []
        try:
            while part := os.read(descriptor, 1 << 20):
                parts.append(part)
        except IsADirectoryError:
            return DIRECTORY
        return digest(b"".join(parts))
    finally:
        os.close(descriptor)


def write_all(descriptor, data):
    view = memoryview(data)
    while len(view) > 0:
        view = view[os.write(descriptor, view[:1 << 20]):]


def sync_directory(name):
    descriptor = os.open(path_of(name), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Closing:
    """Closes at the end; errors of close(2) are none of the store's answers."""

    def __init__(self, name, flags):
        self.descriptor = os.open(path_of(name), flags, 0o644)

    def __enter__(self):
        return self.descriptor

    def __exit__(self, *_):
        try:
            os.close(self.descriptor)
        except OSError:
            pass


class Subject:
    def __init__(self, names, state=None):
        self.names = names
        self.states = [state or tuple(ABSENT for _ in names)]

    def latest(self):
        return self.states[-1]

    def attempt(self, state, operation, sync):
        """`operation` changes the subject to `state`; `sync` is called to make that durable, if given."""
        self.states.append(state)
        operation()
        if MODE != "power":
            self.states = [state]
        elif sync is not None:
            sync()
            self.states = [state]

    def observe(self):
        return tuple(look(name) for name in self.names)

    def verify(self):
        found = self.observe()
        if found not in self.states:
            return [f"{self.names}: found {found}, may be {self.states[-8:]}"]
        if MODE == "power":
            last = len(self.states) - 1 - self.states[::-1].index(found)
            self.states = self.states[:last + 1]
        else:
            self.states = [found]
        return []


class Writer(threading.Thread):
    """One kind of traffic. A subclass says what a step is."""

    def __init__(self, traffic, number):
        super().__init__(daemon=True)
        self.traffic = traffic
        self.number = number
        self.random = random.Random(f"{traffic.seed} {self.__class__.__name__} {number}")
        self.serial = 0
        self.dir = f"{self.__class__.__name__.lower()}-{number}"
        self.subjects = []
        self.prepare()

    def prepare(self):
        pass

    def run(self):
        traffic = self.traffic
        while not traffic.stop.is_set():
            try:
                self.step()
            except OSError as error:
                # With a healthy store the only failure is that the daemon is gone. Killed while it took a request
                # over from the kernel, that request fails with EIO.
                if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED) and not (
                        traffic.killed and error.errno == errno.EIO):
                    traffic.problems.append(f"{self.dir}: {error}")
                return
            traffic.count()

    def again(self):
        """Threads run once: the next round gets a fresh one with the same subjects."""
        threading.Thread.__init__(self, daemon=True)

    def content(self, size):
        self.serial += 1
        line = f"{self.dir} {self.serial} {self.random.getrandbits(40)}\n".encode()
        return (line * (size // len(line) + 1))[:max(size, 1)]

    def maybe_sync(self, descriptor):
        return (lambda: os.fsync(descriptor)) if self.random.random() < 0.4 else None

    def maybe_sync_dir(self):
        return (lambda: sync_directory(self.dir)) if self.random.random() < 0.4 else None

    def check_read(self, subject):
        """A get is never older than what was acknowledged before."""
        if MODE != "power" and self.random.random() < 0.15:
            found = subject.observe()
            if found != subject.latest():
                self.traffic.problems.append(f"{subject.names}: read {found}, not {subject.latest()}")

    def verify(self):
        return [problem for subject in self.subjects for problem in subject.verify()]


class Put(Writer):
    """Whole values, in place of each other."""
    sizes = (1, 40, 300, 3000, 3000, 20000, 200000, 1000000)

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/k{i}",)) for i in range(8)]

    def step(self):
        subject = self.random.choice(self.subjects)
        data = self.content(self.random.choice(self.sizes))
        synced = self.random.choice((0, 0, os.O_SYNC, os.O_DSYNC))
        with Closing(subject.names[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | synced) as descriptor:
            subject.attempt((digest(data),), lambda: write_all(descriptor, data),
                            (lambda: None) if synced else self.maybe_sync(descriptor))
        self.check_read(subject)


class Append(Writer):
    """A log of its own: each record exactly once, in order."""

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/log{i}",)) for i in range(2)]
        self.written = {subject: [b""] for subject in self.subjects}

    def step(self):
        subject = self.random.choice(self.subjects)
        latest = self.written[subject][-1] + self.content(self.random.randrange(10, 3000))
        if len(latest) > 150000:
            latest = self.content(10)
            flags = os.O_TRUNC
        else:
            flags = os.O_APPEND
        new = latest[len(self.written[subject][-1]):] if flags == os.O_APPEND else latest
        self.written[subject].append(latest)
        with Closing(subject.names[0], os.O_WRONLY | os.O_CREAT | flags) as descriptor:
            subject.attempt((digest(latest),), lambda: write_all(descriptor, new), self.maybe_sync(descriptor))
        if len(subject.states) == 1:
            self.written[subject] = [latest]
        self.check_read(subject)

    def verify(self):
        problems = super().verify()
        for subject in self.subjects:
            held = subject.latest()[0]
            versions = [data for data in self.written[subject] if held == (digest(data) if data else ABSENT)]
            self.written[subject] = versions[-1:] or [b""]
        return problems


class Patch(Writer):
    """Parts of a value that has several chunks, overwritten in place."""
    size = 400000

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/value",))]
        self.known = {}

    def step(self):
        subject = self.subjects[0]
        held = subject.latest()[0]
        if held is ABSENT or self.random.random() < 0.02:
            data = self.content(self.size)
            flags, offset, new = os.O_CREAT | os.O_TRUNC, 0, data
        else:
            offset = self.random.randrange(self.size)
            new = self.content(self.random.choice((1, 500, 5000, 150000)))[:self.size - offset]
            data = self.known[held][:offset] + new + self.known[held][offset + len(new):]
            flags = 0
        self.known[digest(data)] = data
        with Closing(subject.names[0], os.O_WRONLY | flags) as descriptor:
            subject.attempt((digest(data),), lambda: os.pwrite(descriptor, new, offset), self.maybe_sync(descriptor))
        possible = {state[0] for state in subject.states}
        self.known = {key: value for key, value in self.known.items() if key in possible}
        self.check_read(subject)


class Rename(Writer):
    """A value goes from name to name: it is at one of them, always."""

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/a{i}", f"{self.dir}/to/b{i}")) for i in range(4)]

    def step(self):
        subject = self.random.choice(self.subjects)
        first, second = subject.latest()
        names = [path_of(name) for name in subject.names]
        if first is ABSENT and second is ABSENT or self.random.random() < 0.2:
            data = self.content(self.random.choice((100, 5000, 300000)))
            with Closing(subject.names[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
                subject.attempt((digest(data), second), lambda: write_all(descriptor, data),
                                self.maybe_sync(descriptor))
        elif first is not ABSENT:
            subject.attempt((ABSENT, first), lambda: os.rename(names[0], names[1]), self.maybe_sync_dir())
        else:
            subject.attempt((second, ABSENT), lambda: os.rename(names[1], names[0]), self.maybe_sync_dir())
        self.check_read(subject)


class Delete(Writer):
    """Values that come and go, directories too."""

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/k{i}",)) for i in range(6)]

    def step(self):
        subject = self.random.choice(self.subjects)
        path = path_of(subject.names[0])
        held = subject.latest()[0]
        if held is ABSENT and self.random.random() < 0.3:
            subject.attempt((DIRECTORY,), lambda: os.mkdir(path), self.maybe_sync_dir())
        elif held is ABSENT:
            data = self.content(self.random.choice((10, 500, 100000)))
            with Closing(subject.names[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
                subject.attempt((digest(data),), lambda: write_all(descriptor, data), self.maybe_sync(descriptor))
        elif held == DIRECTORY:
            subject.attempt((ABSENT,), lambda: os.rmdir(path), self.maybe_sync_dir())
        else:
            subject.attempt((ABSENT,), lambda: os.unlink(path), self.maybe_sync_dir())
        self.check_read(subject)


class Big(Writer):
    """Values of several writes, written beside and moved into place: whole, always."""

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/value",))]

    def step(self):
        subject = self.subjects[0]
        data = self.content(self.random.randrange(1100000, 2200000))
        temporary = f"{self.dir}/temporary"
        with Closing(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            write_all(descriptor, data)
            os.fsync(descriptor)
        subject.attempt((digest(data),), lambda: os.rename(path_of(temporary), path_of(subject.names[0])),
                        self.maybe_sync_dir())
        self.check_read(subject)


class Exclusive(Writer):
    """Several threads make the same names with O_EXCL: one of them has each, and it stays."""

    def prepare(self):
        self.dir = "exclusive"
        self.won = {}

    def step(self):
        traffic = self.traffic
        with traffic.lock:
            name = f"{self.dir}/n{traffic.next_name}"
            if self.random.random() < 0.5:
                traffic.next_name += 1
        traffic.tried.add(name)
        try:
            descriptor = os.open(path_of(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return
        certain = MODE != "power"
        try:
            if not certain and self.random.random() < 0.4:
                os.fsync(descriptor)
                certain = True
        finally:
            os.close(descriptor)
            self.won[name] = certain

    def verify(self):
        if self.number != 0:
            return []
        problems = []
        writers = [writer for writer in self.traffic.writers if isinstance(writer, Exclusive)]
        present = set(os.listdir(path_of(self.dir)))
        for name in sorted(self.traffic.tried):
            winners = [writer.number for writer in writers if name in writer.won]
            certain = any(writer.won.get(name) for writer in writers)
            there = os.path.basename(name) in present
            if len(winners) > 1:
                problems.append(f"{name}: made with O_EXCL by {winners}")
            if certain and not there:
                problems.append(f"{name}: made by {winners}, and gone")
            if there != os.path.exists(path_of(name)):
                problems.append(f"{name}: listed {there}, found {not there}")
        for name in present:
            os.unlink(path_of(f"{self.dir}/{name}"))
        # Names that a power failure took or brings back may be made again: each round has its own.
        with self.traffic.lock:
            self.traffic.next_name += 1
        self.traffic.tried = set()
        for writer in writers:
            writer.won = {}
        return problems


class Shared(Writer):
    """Several threads append to one log: no record lost, none twice, none torn, each thread's in order."""

    def prepare(self):
        self.dir = "shared"
        self.certain = 0  # records 1 to this are there for sure
        self.tried = 0

    def step(self):
        self.tried += 1
        size = self.random.randrange(1, 400)
        record = f"<{self.number} {self.tried} {size} {'x' * size}>\n".encode()
        with Closing(f"shared/log{self.traffic.log}", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
            os.write(descriptor, record)
            if MODE != "power":
                self.certain = self.tried
            elif self.random.random() < 0.3:
                os.fsync(descriptor)
                self.certain = self.tried

    def verify(self):
        if self.number != 0:
            return []
        problems = []
        writers = [writer for writer in self.traffic.writers if isinstance(writer, Shared)]
        name = f"shared/log{self.traffic.log}"
        try:
            with open(path_of(name), "rb") as log:
                data = log.read()
        except FileNotFoundError:
            data = b""
        seen = {writer.number: 0 for writer in writers}
        for line in data.split(b"\n")[:-1]:
            match = re.fullmatch(rb"<(\d+) (\d+) (\d+) (x+)>", line)
            if match is None or len(match[4]) != int(match[3]):
                problems.append(f"{name}: a torn record {line[:60]!r}")
                continue
            number, record = int(match[1]), int(match[2])
            if record != seen[number] + 1:
                problems.append(f"{name}: record {record} of {number} after {seen[number]}")
            seen[number] = record
        if data and data[-1:] != b"\n":
            problems.append(f"{name}: torn at its end")
        for writer in writers:
            if not writer.certain <= seen[writer.number] <= writer.tried:
                problems.append(f"{name}: {seen[writer.number]} records of {writer.number}, acknowledged "
                                f"{writer.certain}, tried {writer.tried}")
            writer.certain = writer.tried = 0
        if data:
            os.unlink(path_of(name))
        self.traffic.log += 1
        return problems


class Attributes(Writer):
    """Modes and times of a value that stays."""

    def prepare(self):
        self.subjects = [Subject((f"{self.dir}/k{i}",)) for i in range(2)]
        for subject in self.subjects:
            subject.observe = lambda name=subject.names[0]: observe_mode(name)

    def step(self):
        subject = self.random.choice(self.subjects)
        path = path_of(subject.names[0])
        if subject.latest()[0] is ABSENT:
            subject.states.append((0o644,))
            with Closing(subject.names[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                os.fsync(descriptor)
            subject.states = [(0o644,)]
            return
        mode = self.random.randrange(0o400, 0o1000)
        subject.attempt((mode,), lambda: os.chmod(path, mode), self.maybe_sync_dir())
        self.check_read(subject)


def observe_mode(name):
    try:
        return (os.stat(path_of(name)).st_mode & 0o7777,)
    except FileNotFoundError:
        return (ABSENT,)


class Traffic:
    kinds = ((Put, 3), (Append, 1), (Patch, 1), (Rename, 2), (Delete, 2), (Big, 1), (Exclusive, 2), (Shared, 2),
             (Attributes, 1))

    def __init__(self, seed):
        self.seed = seed
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.enough = threading.Event()
        self.problems = []
        self.acknowledged = 0
        self.target = 0
        self.next_name = 0
        self.tried = set()
        self.log = 0
        self.killed = False
        self.writers = [kind(self, number) for kind, count in self.kinds for number in range(count)]

    def make_directories(self):
        names = sorted({writer.dir for writer in self.writers})
        names += [f"{name}/to" for name in names if name.startswith("rename")]
        for name in names:
            os.makedirs(path_of(name), exist_ok=True)
            sync_directory(os.path.dirname(name) or ".")

    def count(self):
        with self.lock:
            self.acknowledged += 1
            if self.acknowledged >= self.target:
                self.enough.set()

    def round(self, pid, operations):
        before = self.acknowledged
        self.target = before + operations
        self.enough.clear()
        self.stop.clear()
        self.killed = False
        for writer in self.writers:
            writer.again()
            writer.start()
        while not self.enough.wait(0.2):
            if not any(writer.is_alive() for writer in self.writers):
                break
        if pid > 0:
            self.killed = True
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                self.problems.append("the daemon is gone already")
        else:
            self.stop.set()
        for writer in self.writers:
            writer.join(60)
            if writer.is_alive():
                self.problems.append(f"{writer.dir}: a call hangs after the kill")
        self.stop.set()
        return self.acknowledged - before

    def verify(self):
        problems = self.problems
        self.problems = []
        for writer in self.writers:
            try:
                problems += writer.verify()
            except OSError as error:
                problems.append(f"{writer.dir}: {error}")
        return problems


def main():
    global MODE, ROOT
    ROOT, MODE, seed = sys.argv[1], sys.argv[2], sys.argv[3]
    if MODE not in ("crash", "power", "sync"):
        sys.exit("traffic.py: the mode is crash, power or sync")
    traffic = Traffic(seed)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "prepare":
            traffic.make_directories()
            print("prepared", flush=True)
        elif words[0] == "round":
            print("acknowledged", traffic.round(int(words[1]), int(words[2])), flush=True)
        elif words[0] == "verify":
            problems = traffic.verify()
            for problem in problems[:20]:
                print(f"# {problem}"[:1000], file=sys.stderr, flush=True)
            print("bad" if problems else "good", len(problems), flush=True)


main()
