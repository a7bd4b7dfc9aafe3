#!/usr/bin/env python3
"""powerloss.py - the other half of powerloss.c: what is left of a directory when the power fails.

    powerloss.py begin LIVE DISK             all that is in LIVE counts as synced; DISK is made afresh
    powerloss.py cut LIVE DISK drop SEED     LIVE becomes what was synced, exactly
    powerloss.py cut LIVE DISK torn SEED     the same, but of what was not synced some is there, some not: blocks
                                             of 512 or 4096 bytes in no order, sizes, names

Both end with everything in LIVE synced. No process may have LIVE open.
"""
import os
import random
import shutil
import sys


def copy_new(path, data):
    with open(path, "wb") as out:
        out.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def begin(live, disk):
    shutil.rmtree(disk, ignore_errors=True)
    os.makedirs(f"{disk}/inode")
    os.mkdir(f"{disk}/tree")
    for where, dirs, files in os.walk(live):
        copy = f"{disk}/tree/{os.path.relpath(where, live)}"
        for name in dirs:
            os.mkdir(f"{copy}/{name}")
        for name in files:
            if os.path.isfile(f"{where}/{name}"):
                inode = f"{disk}/inode/{os.stat(f'{where}/{name}').st_ino}"
                if not os.path.exists(inode):
                    shutil.copyfile(f"{where}/{name}", inode)
                os.link(inode, f"{copy}/{name}")


class Cut:
    def __init__(self, disk, torn, seed):
        self.disk = disk
        self.torn = torn
        self.random = random.Random(seed)
        self.kept = self.dropped = 0

    def perhaps(self):
        return self.torn and self.random.random() < 0.5

    def mix(self, synced, latest):
        """One of the contents that a file may have: `synced`, with some blocks of `latest`."""
        if not self.torn or synced == latest:
            self.dropped += synced != latest
            return synced
        block = self.random.choice((512, 4096))
        keep = self.random.choice((0, 0.05, 0.5, 0.95, 1))
        size = self.random.choice((len(synced), len(latest)))
        out = bytearray(max(len(synced), len(latest)))
        out[:len(synced)] = synced
        span = 64 * block
        for begin_of_span in range(0, len(latest), span):
            if latest[begin_of_span:begin_of_span + span] == out[begin_of_span:begin_of_span + span]:
                continue
            for start in range(begin_of_span, min(begin_of_span + span, len(latest)), block):
                part = latest[start:start + block]
                if part != out[start:start + len(part)]:
                    if self.random.random() < keep:
                        out[start:start + len(part)] = part
                        self.kept += 1
                    else:
                        self.dropped += 1
        return bytes(out[:size])

    def live_file(self, path):
        synced = f"{self.disk}/inode/{os.stat(path).st_ino}"
        return self.mix(read(synced) if os.path.exists(synced) else b"", read(path))

    def directory(self, live, tree, new):
        names_live = set(os.listdir(live)) if live and os.path.isdir(live) else set()
        names_tree = set(os.listdir(tree)) if tree and os.path.isdir(tree) else set()
        for name in sorted(names_live | names_tree):
            here, there = f"{live}/{name}", f"{tree}/{name}"
            in_live = name in names_live
            in_tree = name in names_tree
            if name.endswith("-shm"):
                # Mapped, never synced: gone, or whatever the kernel happened to write.
                if in_live and self.perhaps():
                    copy_new(f"{new}/{name}", read(here))
            elif (in_live and os.path.isdir(here)) or (not in_live and os.path.isdir(there)):
                if in_tree and in_live or in_tree and not self.perhaps() or in_live and self.perhaps():
                    os.mkdir(f"{new}/{name}")
                    self.directory(in_live and here, in_tree and there, f"{new}/{name}")
            elif in_live and not os.path.isfile(here):
                continue
            elif in_live and in_tree:
                own = f"{self.disk}/inode/{os.stat(here).st_ino}"
                same = os.path.exists(own) and os.path.samefile(own, there)
                content = self.live_file(here) if same or self.perhaps() else read(there)
                copy_new(f"{new}/{name}", content)
            elif in_live:
                if self.perhaps():
                    copy_new(f"{new}/{name}", self.live_file(here))
            elif not self.perhaps():
                copy_new(f"{new}/{name}", read(there))


def main():
    command, live, disk = sys.argv[1:4]
    if command == "cut":
        cut = Cut(disk, {"drop": False, "torn": True}[sys.argv[4]], sys.argv[5])
        new = f"{live}.new"
        os.mkdir(new)
        cut.directory(live, f"{disk}/tree", new)
        shutil.rmtree(live)
        os.rename(new, live)
        print(f"{cut.kept} blocks kept, {cut.dropped} blocks or files dropped")
    elif command != "begin":
        sys.exit(__doc__)
    begin(live, disk)


main()
