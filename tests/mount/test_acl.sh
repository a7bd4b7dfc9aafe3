#!/usr/bin/env bash
# Goal: POSIX access control lists are kept in step with the mode, inherited, and decide for other users.
. "$(dirname "$0")/../lib/tap.sh"
request_timeout_ms=30000
if [ "$(id -u)" -ne 0 ]; then
  skip "access control lists" "it takes several users"
  finish
fi

chmod 755 "$work"
mount_store nodes=3,allow_other || exit 1
chmod 755 "$mnt"
cd "$mnt" || exit 1
as() { # UID COMMAND...
  local uid=$1
  shift
  setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
acl() { getfacl -ncp --omit-header "$1" | sed '/^$/d' | cut -f1 | paste -sd' '; }

echo secret >f
chmod 600 f
fails_with 1 "Permission denied" "a file of mode 600 is the owner's" as 1001 cat f
setfacl -m u:1001:r f
is "$(as 1001 cat f)" secret "setfacl lets another user read"
fails_with 1 "Permission denied" "but not write" as 1001 bash -c 'echo x >f'
fails_with 1 "Permission denied" "and nobody else" as 1002 cat f
is "$(acl f)" "user::rw- user:1001:r-- group::--- mask::r-- other::---" "getfacl shows the list"
is "$(stat -c %a f)" 640 "the group bits of the mode are the mask"
chmod 600 f
is "$(acl f)" "user::rw- user:1001:r-- group::--- mask::--- other::---" "chmod changes the mask"

fails_with 1 "Permission denied" "which takes the right away" as 1001 cat f
chmod 660 f
is "$(as 1001 cat f)" secret "and gives it back"
setfacl -m g:1003:rw f
passes "a group's right" as 1003 bash -c 'echo more >>f'
fails_with 1 "Operation not permitted" "who is not the owner cannot change the list" as 1003 setfacl -m u:1003:rw f
setfacl -m m::r f
fails_with 1 "Permission denied" "a mask set by setfacl holds" as 1003 bash -c 'echo more >>f'
is "$(stat -c %a f)" 640 "and shows in the mode"
setfacl -b f
is "$(acl f) $(stat -c %a f)" "user::rw- group::--- other::--- 600" "setfacl -b takes the list away"
is "$(getfattr -d -m - f)" "" "a list that the mode says all of is not kept"
setfacl -m u::rwx,g::rx,o::x f
is "$(stat -c %a f)$(getfattr -d -m - f)" 751 "it changes the mode only"

# default lists
mkdir d
setfacl -m d:u:1001:rwx,d:g::rx,d:o::- d
is "$(acl d | tr ' ' '\n' | grep -c ^default)" 5 "a directory has a default list"
(umask 077 && echo x >d/file && mkdir d/sub && : >d/empty && ln -s file d/link && mkfifo d/fifo)
is "$(acl d/file)" "user::rw- user:1001:rwx group::r-x mask::rw- other::---" \
  "a new file inherits it, whatever the umask"
is "$(stat -c %a d/file) $(stat -c %a d/empty) $(stat -c %a d/fifo) $(stat -c %a d/sub)" "660 660 660 770" "as do its mode bits"
is "$(acl d/sub | tr ' ' '\n' | grep -c ^default)" 5 "a new directory has it as its default, too"
echo y >d/sub/deep
chmod 700 d
as 1001 cat d/sub/deep >/dev/null 2>&1
is "$?" 1 "directories on the way count, too"
setfacl -m u:1001:rx d
is "$(as 1001 cat d/sub/deep)" y "and let pass who is listed"
is "$(getfattr -h -d -m - d/link)" "" "symlinks inherit nothing"
python3 -c '
import os
fd = os.open("d/both", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.write(fd, b"x")'
is "$(stat -c %a d/both)" 600 "the mode that is asked for bounds the list"
fails_with 1 "Permission denied" "for the listed user, too" as 1001 cat d/both
setfacl -k d
(umask 027 && echo x >d/later)
is "$(stat -c %a d/later)$(getfattr -d -m - d/later)" 640 "without a default list the umask counts"
(umask 077 && mkdir plain && echo x >plain/f && mkfifo plain/p)
is "$(stat -c %a plain) $(stat -c %a plain/f) $(stat -c %a plain/p)" "700 600 600" "as in any directory"

setfacl -m u:1001:rw f
cp -a f copy
is "$(acl copy)" "$(acl f)" "cp -a copies lists"
rsync -aA d/ e/
is "$(acl e/sub)" "$(acl d/sub)" "rsync -A, too"
mv f moved
before=$(acl moved)
cd / || exit 1
unmount_store
mount_store allow_other || exit 1
cd "$mnt" || exit 1
is "$(acl moved)" "$before" "kept by rename and remount"
chown 1002:1002 moved
chmod 2770 moved
as 1002 setfacl -m u:1001:r moved
is "$(stat -c %a moved)" 2750 "the set-gid bit stays if the owner is in the group"
chgrp 1003 moved
chmod 2770 moved
as 1002 setfacl -m u:1001:rw moved
is "$(stat -c %a moved)" 770 "and goes if not"
cd / || exit 1
finish
