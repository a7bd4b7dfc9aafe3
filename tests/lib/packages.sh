# shellcheck shell=bash
# packages.sh - sourced by mount.sh and tests/run.sh: which Debian packages are missing, and getting them.

# Prints the packages (one a line) without which the program cannot be built or mounted.
packages_missing_for_build() {
  local command package module
  while read -r command package; do
    command -v "$command" >/dev/null 2>&1 || echo "$package"
  done <<'END'
cc gcc
meson meson
ninja ninja-build
pkg-config pkg-config
fusermount3 fuse3
END
  printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1 || echo libc6-dev
  while IFS='|' read -r module package; do
    pkg-config --exists "$module" >/dev/null 2>&1 || echo "$package"
  done <<'END'
fuse3 >= 3.14|libfuse3-dev
glib-2.0 >= 2.74|libglib2.0-dev
json-glib-1.0 >= 1.6|libjson-glib-dev
sqlite3 >= 3.40|libsqlite3-dev
libxxhash >= 0.8|libxxhash-dev
END
}

# The same for what only the tests use.
packages_missing_for_tests() {
  local command package
  while read -r command package; do
    command -v "$command" >/dev/null 2>&1 || echo "$package"
  done <<'END'
sqlite3 sqlite3
getfattr attr
setfacl acl
rsync rsync
git git
patch patch
vim vim
make make
ar binutils
cpio cpio
perl perl
python3 python3
ps procps
END
}

# The same for tests/bench/run.sh: the peers, and what talks to them.
packages_missing_for_bench() {
  local command package module
  while read -r command package; do
    command -v "$command" >/dev/null 2>&1 || echo "$package"
  done <<'END'
redis-server redis-server
etcd etcd-server
etcdctl etcd-client
glusterd glusterfs-server
gnuplot gnuplot-nox
ip iproute2
python3 python3
END
  while IFS='|' read -r module package; do
    pkg-config --exists "$module" >/dev/null 2>&1 || echo "$package"
  done <<'END'
hiredis|libhiredis-dev
libcurl|libcurl4-openssl-dev
END
}

# packages_install PACKAGE...: by apt-get when we may, else one line that says what to do, and exit 2.
packages_install() {
  local -a as_root=()
  local package
  if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true >/dev/null 2>&1; then
      as_root=(sudo -n)
    else
      as_root=(false)
    fi
  fi
  if ! command -v apt-get >/dev/null 2>&1 || [ "${as_root[0]-}" = false ]; then
    echo "quorumfs: packages are missing; install them with: sudo apt-get install -y $*" >&2
    exit 2
  fi
  echo "quorumfs: installing $*" >&2
  for package in "$@"; do
    if ! apt-cache show "$package" >/dev/null 2>&1; then
      packages_apt update
      break
    fi
  done
  # Lists that are too old name files that are gone: then once more with new ones.
  if ! packages_apt install "$@" 2>/dev/null; then
    packages_apt update
    if ! packages_apt install "$@"; then
      echo "quorumfs: packages could not be installed: $*" >&2
      exit 2
    fi
  fi
}

# Quiet unless it fails. Uses `as_root` of packages_install.
packages_apt() {
  local log
  log=$(mktemp)
  local -a command=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
  case $1 in
  update) command+=(update) ;;
  install) shift && command+=(install --no-install-recommends "$@") ;;
  esac
  if "${command[@]}" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
  else
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
}
