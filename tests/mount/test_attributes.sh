#!/usr/bin/env bash
# Goal: extended attributes of files, directories and symlinks are stored, with the errors that other filesystems give,
# are changed one by one without losing any, and go with their files.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000

mount_store nodes=3,allow_other || exit 1
chmod 755 "$work"
cat >"$work/attributes.py" <<'END'
import errno, os, threading


def point(ok, name):
    print(("ok" if ok else "not ok"), "-", name, flush=True)


def error_of(f, *args, **kw):
    try:
        f(*args, **kw)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "none"


open("f", "w").write("value")
os.mkdir("d")
os.symlink("f", "s")
for path in ("f", "d"):
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "user.bytes", bytes(range(256)))
    point(os.getxattr(path, "user.one") == b"1" and os.getxattr(path, "user.empty") == b""
          and os.getxattr(path, "user.bytes") == bytes(range(256)), path + ": values of any bytes, and empty ones")
    point(sorted(os.listxattr(path)) == ["user.bytes", "user.empty", "user.one"], path + ": all are listed")
root = os.geteuid() == 0
if root:
    os.setxattr("f", "trusted.t", b"t")
    os.setxattr("f", "security.s", b"s")
    os.setxattr("s", "trusted.link", b"l", follow_symlinks=False)
    point(os.getxattr("s", "trusted.link", follow_symlinks=False) == b"l", "symlinks have trusted ones")
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        os._exit(0 if "trusted.t" not in os.listxattr("f") and "security.s" in os.listxattr("f")
                 and error_of(os.getxattr, "f", "trusted.t") == "ENODATA" else 1)
    point(os.waitpid(child, 0)[1] == 0, "who is not root does not see trusted ones")
point(error_of(os.setxattr, "s", "user.x", b"x", follow_symlinks=False) == "EPERM", "symlinks have none of users")
point(error_of(os.setxattr, "f", "user.one", b"2", os.XATTR_CREATE) == "EEXIST", "XATTR_CREATE of one that is there")
point(error_of(os.setxattr, "f", "user.two", b"2", os.XATTR_REPLACE) == "ENODATA", "XATTR_REPLACE of one that is not")
os.setxattr("f", "user.one", b"22", os.XATTR_REPLACE)
os.setxattr("f", "user.two", b"2", os.XATTR_CREATE)
point(os.getxattr("f", "user.one") == b"22" and os.getxattr("f", "user.two") == b"2", "the other way round both work")
os.removexattr("f", "user.two")
point(error_of(os.getxattr, "f", "user.two") == "ENODATA" and error_of(os.removexattr, "f", "user.two") == "ENODATA",
      "a removed one is gone")
point(error_of(os.setxattr, "f", "user." + "n" * 250, b"") == "none"
      and error_of(os.setxattr, "f", "user." + "n" * 251, b"") == "ERANGE", "names up to 255 bytes")
point(error_of(os.setxattr, "f", "other.x", b"x") == "ENOTSUP", "other namespaces are refused")
big = os.urandom(65536)
os.setxattr("f", "user.big", big)
point(os.getxattr("f", "user.big") == big, "values up to 64 KiB")
point(error_of(os.setxattr, "f", "user.big", big + b"x") == "E2BIG", "and no longer ones")
point(error_of(os.setxattr, "f", "user.big2", big) == "ENOSPC" and os.getxattr("f", "user.big") == big
      and "user.big2" not in os.listxattr("f"), "128 KiB of all of a file; beyond it nothing changes")
os.removexattr("f", "user.big")
before = os.stat("f")
os.setxattr("f", "user.one", b"3")
after = os.stat("f")
point(after.st_ctime_ns > before.st_ctime_ns and after.st_mtime_ns == before.st_mtime_ns, "ctime changes, mtime does not")
fd = os.open("new", os.O_CREAT | os.O_WRONLY, 0o644)
os.setxattr(fd, "user.early", b"e")
os.write(fd, b"data")
os.close(fd)
point(os.getxattr("new", "user.early") == b"e" and open("new").read() == "data", "set before the first write")
open("new", "w").write("replaced")
open("new", "a").write(" appended")
os.truncate("new", 3)
os.chmod("new", 0o600)
os.rename("new", "moved")
point(os.getxattr("moved", "user.early") == b"e", "kept by writes, truncation, chmod and rename")
fd = os.open("moved", os.O_RDWR)
os.unlink("moved")
os.setxattr(fd, "user.late", b"l")
point(os.getxattr(fd, "user.late") == b"l" and os.getxattr(fd, "user.early") == b"e", "of an unlinked file that is open")


def setter(name):
    for i in range(50):
        os.setxattr("d", "user." + name, b"%d" % i)


threads = [threading.Thread(target=setter, args=(name,)) for name in "abcdefgh"]
for t in threads:
    t.start()
for i in range(100):
    os.chmod("d", 0o700 + i % 8)
    os.utime("d", (i, i))
for t in threads:
    t.join()
point(all(os.getxattr("d", "user." + name) == b"49" for name in "abcdefgh"), "set by eight at once, none is lost")
if root:
    open("prog", "w").write("x")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr("prog", "security.capability", capability)
    kept = "security.capability" in os.listxattr("prog")
    os.setxattr("prog", "user.stays", b"s")
    fd = os.open("prog", os.O_WRONLY)
    os.write(fd, b"y")
    os.close(fd)
    point(kept and os.listxattr("prog") == ["user.stays"], "a write takes file capabilities away")
    os.setxattr("prog", "security.capability", capability)
    fd = os.open("prog", os.O_RDWR)
    os.write(fd, b"z")
    os.close(fd)
    point(os.listxattr("prog") == ["user.stays"], "also through a descriptor for reading and writing")
END
while read -r line; do
  case $line in
  "ok - "*) ok "${line#ok - }" ;;
  "not ok - "*) not_ok "${line#not ok - }" ;;
  *) diag "$line" ;;
  esac
done < <(cd "$mnt" && limited 200 python3 "$work/attributes.py" 2>&1 || echo "not ok - the program ended with $?")

unmount_store
mount_store "" || exit 1
is "$(getfattr --absolute-names -n user.one --only-values "$mnt/f")" 3 "they are there at the next mount"
mkdir "$work/restored"
all() { getfattr --absolute-names -d -m '^user' "$1" | sed 1d; }
cp -a "$mnt/f" "$mnt/copy"
is "$(all "$mnt/copy")" "$(all "$mnt/f")" "cp -a copies them"
tar -C "$mnt" --xattrs --xattrs-include='user.*' -cf "$work/t.tar" f d
mkdir "$mnt/x"
tar -C "$mnt/x" --xattrs --xattrs-include='user.*' -xf "$work/t.tar"
is "$(all "$mnt/x/f")$(all "$mnt/x/d")" "$(all "$mnt/f")$(all "$mnt/d")" "tar --xattrs keeps them"
rsync -aX "$mnt/x/" "$mnt/y/" && rsync -aX "$mnt/y/" "$work/restored/"
is "$(all "$mnt/y/f")$(all "$work/restored/d")" "$(all "$mnt/f")$(all "$mnt/d")" "rsync -X, too, into the mount and out of it"
mkdir "$mnt/many"
for i in {1..300}; do : >"$mnt/many/$i"; done
ls -l "$mnt/many" >/dev/null
asked() { sed -n 's/^quorumfs_fuse_requests_total{operation="getxattr"} //p' "$mnt/.quorumfs/metrics"; }
before=$(asked)
is "$(ls -l "$mnt/many" | wc -l)" 301 "a long directory is listed"
passes "without asking for a label of each file" test $(($(asked) - before)) -lt 400
for i in 1 2 3; do set_state $i down; done
fails_with 1 "Host is down" "without a quorum setting one fails" setfattr -n user.one -v x "$mnt/f"
finish
