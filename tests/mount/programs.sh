#!/usr/bin/env bash
# programs.sh - real programs at work in one directory; run by test_programs.sh, as root and as an ordinary user.
#
#   programs.sh DIRECTORY SCRATCH [FILES]
#
# DIRECTORY is in the mount, SCRATCH elsewhere; both are empty. The large tree has FILES files (4000). One line "ok - NAME"
# or "not ok - NAME" for each point, and what the program said before the latter.
set -u
export LC_ALL=C.UTF-8 HOME=$2 TMPDIR=$2
dir=$1 scratch=$2 files=${3:-4000}
umask 022

point() { # NAME COMMAND...
  local name=$1
  shift
  if "$@" >"$scratch/said" 2>&1; then
    echo "ok - $name"
  else
    echo "status $? of: $*"
    tail -n 30 "$scratch/said"
    echo "not ok - $name"
  fi
}
same() { [ "$1" = "$2" ] || { printf "got      '%s'\nexpected '%s'\n" "$1" "$2" && false; }; }
# Nothing that rsync would change: bytes, modes, owners, times, attributes, access lists.
identical() { same "$(rsync -aHAXc --delete --dry-run --itemize-changes "$1/" "$2/" 2>&1)" ""; }

# --- a tree of every kind ---

make_tree() { # DIRECTORY
  local i
  mkdir -p "$1/sub/deep" "$1/empty"
  for i in $(seq 30); do seq "$((i * 40))" >"$1/sub/f$i"; done
  head -c 400000 /dev/urandom >"$1/sub/deep/big"
  : >"$1/sub/deep/nothing"
  truncate -s 300000 "$1/sparse" && echo end >>"$1/sparse"
  printf '#!/bin/sh\necho ran\n' >"$1/run" && chmod 750 "$1/run"
  ln -s sub/f1 "$1/link" && ln -s nowhere "$1/dangling"
  mkfifo "$1/pipe"
  chmod 640 "$1/sub/f3" && chmod 1777 "$1/sub/deep"
  touch -d '2001-02-03 04:05:06.123456789' "$1/sub/f4" "$1/sub"
  touch -h -d '1999-01-02' "$1/link"
  setfattr -n user.colour -v blue "$1/sub/f5" "$1/empty"
  setfacl -m u:12345:r "$1/sub/f6" && setfacl -d -m g:12345:rwx "$1/empty"
  printf 'x' >"$1/with space" && printf 'y' >"$1/new
line"
}

archives() {
  make_tree "$scratch/tree"
  mkdir "$dir/untarred" "$scratch/back" "$scratch/back2"
  tar -C "$scratch/tree" --xattrs --acls --format=posix --sparse -cf "$scratch/tree.tar" .
  point "tar extracts" tar -C "$dir/untarred" --xattrs --acls --atime-preserve -xpf "$scratch/tree.tar"
  point "everything is as it was, with attributes" identical "$scratch/tree" "$dir/untarred"
  point "tar packs" tar -C "$dir/untarred" --xattrs --acls --format=posix --sparse -cf "$dir/tree.tar" .
  tar -C "$scratch/back" --xattrs --acls -xpf "$dir/tree.tar"
  point "and that is the same again" identical "$scratch/tree" "$scratch/back"
  point "rsync there" rsync -aHAX --sparse "$scratch/tree/" "$dir/synced/"
  point "gives the same" identical "$scratch/tree" "$dir/synced"
  echo changed >>"$dir/synced/sub/f2" && rm "$dir/synced/run" && echo extra >"$dir/synced/extra"
  point "rsync mends what differs" rsync -aHAX --delete "$scratch/tree/" "$dir/synced/"
  point "so that it is the same" identical "$scratch/tree" "$dir/synced"
  point "rsync back" rsync -aHAX "$dir/synced/" "$scratch/back2/"
  point "gives the same again" identical "$scratch/tree" "$scratch/back2"
  point "rsync --inplace" rsync -aHAX --inplace --no-whole-file -c "$scratch/tree/" "$dir/untarred/"
  point "cp -a within" cp -a "$dir/synced" "$dir/copied"
  point "is the same" identical "$scratch/tree" "$dir/copied"
  point "mv to elsewhere and back" bash -c "mv '$dir/copied' '$scratch/moved' && mv '$scratch/moved' '$dir/copied'"
  point "is the same" identical "$scratch/tree" "$dir/copied"
  point "cpio" bash -c "cd '$scratch/tree' && find . -depth ! -name pipe -print0 | cpio -0 -pdm --quiet '$dir/cpio'"
}

# --- git ---

git_work() {
  local repo=$dir/repo i
  export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t \
    GIT_COMMITTER_EMAIL=t@example.org
  point "git init" git init -q -b main "$repo"
  cp -r "$scratch/tree/sub" "$repo/src"
  for i in 1 2 3 4 5 6; do
    echo "$i" >>"$repo/src/f$i"
    git -C "$repo" add . >/dev/null 2>&1 && git -C "$repo" commit -q -m "change $i" || echo "not ok - git commit $i"
  done
  point "six commits" same "$(git -C "$repo" rev-list --count HEAD)" 6
  point "git clone within" git clone -q "$repo" "$dir/clone"
  point "git clone --no-local" git clone -q --no-local "$repo" "$dir/clone2"
  point "a branch, changed and merged" bash -c "cd '$dir/clone' && git switch -q -c other && echo other >>src/f9 &&
    git commit -q -a -m other && git switch -q main && echo main >>src/f10 && git commit -q -a -m main &&
    git merge -q --no-edit other && git log --oneline | wc -l"
  point "git push" git -C "$dir/clone" push -q origin other
  point "git rebase" bash -c "cd '$dir/clone2' && echo 2 >>src/f11 && git commit -q -a -m two && git pull -q --rebase origin other"
  point "git stash" bash -c "cd '$dir/clone2' && echo s >>src/f12 && git stash -q && git stash pop -q && git checkout -q src/f12"
  point "git worktree" git -C "$repo" worktree add -q "$dir/worktree" other
  point "git gc" git -C "$repo" gc -q --aggressive --prune=now
  for i in repo clone clone2; do
    point "git fsck of $i" same "$(git -C "$dir/$i" fsck --full --strict 2>&1 | grep -v '^dangling')" ""
    point "git status of $i is clean" same "$(git -C "$dir/$i" status --porcelain)" ""
  done
  point "git clone out of the mount" git clone -q "$repo" "$scratch/clone"
  point "gives the same files" diff -r -x .git "$repo" "$scratch/clone"
}

# --- sqlite3 ---

insert_rows() { # DATABASE WHO
  local i
  for i in $(seq 40); do echo "insert into t values('$2', $i);"; done | sqlite3 -bail -cmd '.timeout 60000' "$1"
}

database() { # JOURNAL-MODE
  local db=$dir/$1.db
  point "sqlite3, $1: a database" sqlite3 "$db" "pragma journal_mode=$1; create table t(who, n); create index i on t(n);"
  insert_rows "$db" a & local a=$!
  insert_rows "$db" b & local b=$!
  point "sqlite3, $1: one process inserts" wait "$a"
  point "sqlite3, $1: and another one" wait "$b"
  point "sqlite3, $1: all is there" same "$(sqlite3 "$db" "select count(*), count(distinct n), sum(n) from t")" "80|40|1640"
  point "sqlite3, $1: many rows, taken back" same "$(sqlite3 "$db" "begin;
    insert into t with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) select 'c', x from c;
    rollback; select count(*) from t;")" 80
  point "sqlite3, $1: many rows" same "$(sqlite3 "$db" "
    insert into t with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) select 'c', x from c;
    delete from t where n % 3 = 0; vacuum; select count(*) from t;")" "$(sqlite3 :memory: "create table t(n);
    insert into t with recursive c(x) as (select 1 union all select x + 1 from c where x < 40) select x from c;
    insert into t select n from t;
    insert into t with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) select x from c;
    delete from t where n % 3 = 0; select count(*) from t")"
  point "sqlite3, $1: it is whole" same "$(sqlite3 "$db" "pragma integrity_check")" ok
}

# --- editors, compilers, scripts ---

editors() {
  seq 200 >"$dir/edited" && chmod 640 "$dir/edited"
  point "vim writes" vim -es -u NONE -i NONE -c 'set backup backupdir=. writebackup undofile' -c '%s/^1$/one/' -c wq "$dir/edited"
  point "what was changed" same "$(head -n 1 "$dir/edited") $(stat -c %a "$dir/edited")" "one 640"
  point "vim, by renaming" vim -es -u NONE -i NONE -c 'set backupcopy=no' -c '%s/^2$/two/' -c wq "$dir/edited"
  point "vim, in place" vim -es -u NONE -i NONE -c 'set backupcopy=yes' -c '%s/^3$/three/' -c wq "$dir/edited"
  point "sed -i" sed -i 's/^4$/four/' "$dir/edited"
  point "perl -i" perl -i.bak -pe 's/^5$/five/' "$dir/edited"
  point "all of it" same "$(head -n 5 "$dir/edited" | xargs)" "one two three four five"
  point "patch" bash -c "cd '$dir' && cp edited patched && sed -i 's/^6$/six/' patched && diff -u edited patched >p;
    patch -s edited <p && cmp edited patched"
  point "sort -o onto itself" sort -R -o "$dir/edited" "$dir/edited"
  point "split and cat" bash -c "cd '$dir' && split -b 100 edited part. && cat part.* | cmp - edited && rm part.*"
}

make_project() {
  local i
  mkdir "$dir/project" && cd "$dir/project" || return
  echo 'int number(int);' >number.h
  for i in 1 2 3 4 5 6; do printf '#include "part.h"\nint part%d(void) { return PART * %d; }\n' "$i" "$i" >"part$i.c"; done
  printf '#define PART 10\n' >part.h
  for i in 1 2 3 4 5 6; do echo "int part$i(void);" >>part.h; done
  printf '#include "part.h"\n#include <stdio.h>\nint main(void) { printf("%%d\\n", part1() + part2() + part3() + part4() + part5() + part6()); return 0; }\n' >main.c
  cat >Makefile <<'END'
OBJECTS = part1.o part2.o part3.o part4.o part5.o part6.o
program: main.o libparts.a
	cc -g -o $@ main.o libparts.a
libparts.a: $(OBJECTS)
	ar rcs $@ $^
%.o: %.c
	cc -g -O1 -MMD -c -o $@ $<
	echo $@ >>compiled
-include *.d
END
  point "make -j2" make -s -j2
  point "the program runs" same "$(./program)" 210
  point "nothing is to be done" same "$(make)" "make: 'program' is up to date."
  : >compiled
  sed -i 's/PART 10/PART 100/' part.h
  point "make again" make -s -j2
  point "what depends on a header is compiled anew" same "$(wc -l <compiled) $(./program)" "7 2100"
  : >compiled
  touch part3.c
  point "make once more" make -s -j2
  point "only what changed" same "$(cat compiled)" part3.o
  point "strip and install" bash -c "strip program && install -m 755 program '$dir/installed' && '$dir/installed'"
  point "make clean" rm -f ./*.o ./*.d ./*.a program
  cd /
}

scripts() {
  mkdir "$dir/xargs"
  point "xargs -P4" bash -c "cd '$dir/xargs' && seq 300 | xargs -P 4 -I{} sh -c 'echo line {} >>log; echo {} >tmp.{}; mv tmp.{} out.{}'"
  point "no line is lost" same "$(sort -u "$dir/xargs/log" | wc -l) $(wc -l <"$dir/xargs/log")" "300 300"
  point "nor a file" same "$(cat "$dir"/xargs/out.* | sort -n | md5sum)" "$(seq 300 | md5sum)"
  point "flock" bash -c "cd '$dir/xargs' && echo 0 >n && seq 60 | xargs -P 4 -I{} flock lock sh -c 'echo \$((\$(cat n) + 1)) >n' && [ \$(cat n) = 60 ]"
  point "python: temporary files, copies, archives, locks, maps" python3 - "$dir" <<'END'
import fcntl, mmap, os, shutil, sys, tempfile, zipfile
top = sys.argv[1]
with tempfile.TemporaryDirectory(dir=top) as d:
    with tempfile.NamedTemporaryFile(dir=d) as f:
        f.write(b"x" * 100000)
        f.flush()
        assert open(f.name, "rb").read() == b"x" * 100000
    with tempfile.TemporaryFile(dir=d) as f:
        f.write(b"y" * 100000)
        f.seek(0)
        assert f.read() == b"y" * 100000
    fd, name = tempfile.mkstemp(dir=d)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.write(fd, b"z" * 50000)
    with mmap.mmap(fd, 0) as m:
        m[10] = ord("Z")
        m.flush()
    assert open(name, "rb").read()[10:11] == b"Z"
    os.close(fd)
    os.replace(name, name + ".new")
    shutil.copytree(os.path.join(top, "synced", "sub"), os.path.join(d, "copy"))
    shutil.make_archive(os.path.join(d, "a"), "zip", os.path.join(d, "copy"))
    assert zipfile.ZipFile(os.path.join(d, "a.zip")).testzip() is None
    shutil.move(os.path.join(d, "copy"), os.path.join(d, "moved"))
    shutil.rmtree(os.path.join(d, "moved"))
assert not os.path.exists(d)
END
}

large_tree() {
  mkdir "$dir/large"
  point "a large tree" bash -c "cd '$dir/large' && seq -f 'd%02g' 0 39 | xargs mkdir &&
    for ((i = 0; i < $files; i++)); do printf '%5s\n' \$i >\"d\$((i / 10 % 4))\$((i % 10))/f\$i\" || exit 1; done"
  point "find" same "$(find "$dir/large" -type f -size 6c | wc -l)" "$files"
  point "du" same "$(du -ab "$dir/large" --max-depth=2 | grep -c '/f[0-9]*$')" "$files"
  point "cp -a" cp -a "$dir/large" "$dir/large2"
  point "is the same" identical "$dir/large" "$dir/large2"
  point "chmod -R" bash -c "chmod -R go-rwx '$dir/large2' && [ \$(find '$dir/large2' -perm /077 | wc -l) = 0 ]"
  point "rm -rf of half of it while it is listed" bash -c "find '$dir/large2' -type f -name '*[02468]' -exec rm {} + &&
    [ \$(find '$dir/large2' -type f | wc -l) = $((files / 2)) ]"
  point "rm -rf" rm -rf "$dir/large" "$dir/large2"
  point "misses nothing" bash -c "[ ! -e '$dir/large' ] && [ ! -e '$dir/large2' ]"
}

archives
git_work
database delete
database wal
editors
make_project
scripts
large_tree
point "in the end all of it can be removed" bash -c "find '$dir' -mindepth 1 -delete && [ -z \"\$(ls -A '$dir')\" ]"
