"""peers.py: the stores that are measured, each started for one run and ended after it.

A peer has a `name`, a `target` for the program `measure` while it runs, and `mount`, the directory whose files are its
keys, if it has one. start() raises Unavailable with the reason when it cannot be had here; stop() ends every process
that start() began, by id, and unmounts what it mounted.
"""
import os
import re
import signal
import shutil
import socket
import subprocess
import time

EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
START_S = 30


class Unavailable(Exception):
    pass


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stdout.strip()[-300:]}")
    return done.stdout


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Unavailable(f"{program} is not installed")


def wait_for(condition, what):
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} did not come up within {START_S} s")
        time.sleep(0.02)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Peer:
    mount = None
    pid = None  # of the process whose memory and processor time are its cost

    def __init__(self, work, build):
        self.dir, self.build, self.processes = os.path.join(work, re.sub(r'\W+', '-', self.name)), build, []
        os.makedirs(self.dir)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def spawn(self, *command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(self.path("log"), "ab"),
                                   stderr=subprocess.STDOUT, start_new_session=True)
        self.processes.append(process)
        return process

    def stop(self):
        if self.mount and os.path.ismount(self.mount):
            subprocess.run(["umount", self.mount], stderr=subprocess.DEVNULL)
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


class Mounted(Peer):
    """A filesystem at self.mount; values lie in its directory b."""

    def mounted(self, *command):
        self.mount = self.path("mnt")
        os.makedirs(self.mount)
        process = self.spawn(*command)
        self.pid = process.pid

        def up():
            if process.poll() is not None:
                raise Unavailable(f"{command[0]} ended: " + open(self.path("log")).read()[-300:])
            return os.path.ismount(self.mount)
        wait_for(up, self.name)

    def values(self):
        os.makedirs(os.path.join(self.mount, "b"), exist_ok=True)
        self.target = "file:" + os.path.join(self.mount, "b")


class Disk(Peer):
    """The filesystem below everything else: named after its type."""
    name = "ext4"

    def start(self):
        kind = run("findmnt", "-no", "FSTYPE", "-T", self.dir).strip()
        if kind != "ext4":
            raise Unavailable(f"{self.dir} is on {kind}: give --dir a directory on ext4")
        self.files = self.path("b")
        os.makedirs(self.files)
        self.target = "file:" + self.files


class Minimal(Mounted):
    """One request a get, nothing stored, on libfuse's loop: what FUSE itself costs."""
    name = "minimal FUSE"

    def start(self):
        self.mounted(os.path.join(self.build, "tests/bench/minimal_fuse"), "-f", self.path("mnt"))
        self.target = "file:" + self.mount


class Passthrough(Mounted):
    """libfuse's example passthrough_ll, built from Debian's own source, with its own defaults."""
    name = "passthrough_ll"

    def start(self):
        if not os.path.exists(EXAMPLE):
            raise Unavailable(f"{EXAMPLE} is not there (it comes with libfuse3-dev)")
        flags = run("pkg-config", "--cflags", "--libs", "fuse3").split()
        run("cc", "-O2", "-o", self.path("passthrough_ll"), EXAMPLE, *flags)
        os.makedirs(self.path("source"))
        self.mounted(self.path("passthrough_ll"), "-f", "-o", "source=" + self.path("source"), self.path("mnt"))
        self.values()


class Quorumfs(Mounted):
    """Five nodes, three replicas, the defaults."""
    name = "quorumfs"

    def __init__(self, work, build, options=""):
        super().__init__(work, build)
        self.options = "store=" + self.path("store") + options

    def start(self):
        self.mounted(os.path.join(self.build, "quorumfs"), "mount", "-f", "-o", self.options, self.path("mnt"))
        wait_for(lambda: os.path.exists(os.path.join(self.mount, ".quorumfs/status")), self.name)
        self.values()


class Engine(Peer):
    """The same in the measuring process itself, without a mount."""
    name = "quorumfs API"

    def start(self):
        self.target = "engine:" + self.path("store")


class Sqlite(Peer):
    """One SQLite file, one table, WAL: what one replica costs at the least."""
    name = "SQLite"

    def start(self):
        self.target = "sqlite:" + self.path("one.db")


class Redis(Peer):
    fsync = "everysec"
    name = "Redis everysec"

    def start(self):
        need("redis-server", "redis-cli")
        port = str(free_port())
        self.spawn("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", self.dir, "--save", "",
                   "--appendonly", "yes", "--appendfsync", self.fsync)
        wait_for(lambda: subprocess.run(["redis-cli", "-p", port, "ping"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL).returncode == 0, self.name)
        self.target = "redis:" + port


class RedisAlways(Redis):
    fsync = "always"
    name = "Redis always"


class Etcd(Peer):
    """Three members on loopback, asked through the HTTP gateway of the leader's cluster."""
    name = "etcd"

    def start(self):
        need("etcd", "etcdctl")
        ports = [(free_port(), free_port()) for _ in range(3)]
        cluster = ",".join(f"m{i}=http://127.0.0.1:{peer}" for i, (_, peer) in enumerate(ports))
        for i, (client, peer) in enumerate(ports):
            self.spawn("etcd", "--name", f"m{i}", "--data-dir", self.path(f"m{i}"), "--logger", "zap",
                       "--listen-client-urls", f"http://127.0.0.1:{client}",
                       "--advertise-client-urls", f"http://127.0.0.1:{client}",
                       "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                       "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                       "--initial-cluster", cluster, "--max-request-bytes", "8388608")
        environment = dict(os.environ, ETCDCTL_API="3")
        wait_for(lambda: subprocess.run(["etcdctl", "--endpoints", f"127.0.0.1:{ports[0][0]}", "endpoint", "health"],
                                        env=environment, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL).returncode == 0, self.name)
        self.target = f"etcd:{ports[0][0]}"


class Gluster(Mounted):
    """GlusterFS, replica 3, three bricks. It refuses loopback addresses: it gets a network namespace of its own."""
    name = "GlusterFS"
    address = "192.168.213.1"

    def start(self):
        need("glusterd", "gluster", "ip", "nsenter")
        if os.geteuid() != 0:
            raise Unavailable("it needs root")
        self.space = f"qfsbench{os.getpid()}"
        run("ip", "netns", "add", self.space)
        inside = ["nsenter", "--net=/run/netns/" + self.space]
        for command in ("ip link set lo up", "ip link add gb0 type veth peer name gb1",
                        f"ip addr add {self.address}/24 dev gb0", "ip link set gb0 up", "ip link set gb1 up"):
            run(*inside, *command.split())
        with open(self.path("glusterd.vol"), "w") as file:
            file.write("volume management\n  type mgmt/glusterd\n"
                       f"  option working-directory {self.path('glusterd')}\n"
                       f"  option run-directory {self.path('run')}\n"
                       f"  option glusterd-sockfile {self.path('socket')}\n"
                       "  option transport-type socket\n  option transport.socket.listen-port 24007\nend-volume\n")
        os.makedirs(self.path("glusterd"))
        os.makedirs(self.path("run"))
        self.spawn(*inside, "glusterd", "-N", "-f", self.path("glusterd.vol"), "-l", self.path("glusterd.log"),
                   "-p", self.path("glusterd.pid"))
        self.gluster = inside + ["gluster", "--mode=script", "--glusterd-sock=" + self.path("socket")]
        wait_for(lambda: subprocess.run(self.gluster + ["volume", "list"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL).returncode == 0, "glusterd")
        bricks = [f"{self.address}:{self.path('brick' + str(i))}" for i in range(3)]
        run(*self.gluster, "volume", "create", "bench", "replica", "3", *bricks, "force")
        run(*self.gluster, "volume", "start", "bench")
        self.mounted(*inside, "glusterfs", "-N", "--volfile-server=" + self.address, "--volfile-id=bench",
                     "-l", self.path("client.log"), self.path("mnt"))
        self.values()

    def stop(self):
        if self.mount:
            subprocess.run(["umount", self.mount], stderr=subprocess.DEVNULL)
        if hasattr(self, "gluster"):
            subprocess.run(self.gluster + ["volume", "stop", "bench", "force"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        super().stop()
        if hasattr(self, "space"):
            subprocess.run(["ip", "netns", "del", self.space], stderr=subprocess.DEVNULL)


ALL = [Quorumfs, Disk, Minimal, Passthrough, Gluster, RedisAlways, Redis, Etcd, Sqlite, Engine]
