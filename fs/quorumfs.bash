# bash completion for quorumfs                                             -*- shell-script -*-
# Commands, options, mount options, node numbers and states; paths are completed as files.

_quorumfs_mount_options='store= nodes= replicas= node1= sync async timeout= tombstone_grace= scrub_period= cached_names= ephemeral
  faults engine=embedded allow_other allow_root auto_unmount ro rw noexec nosuid nodev noatime fsname='

# The word under the cursor is the last in a list that is separated by commas.
_quorumfs_complete_mount_options() {
  local before='' last=$cur
  case $cur in *,*) before=${cur%,*}, last=${cur##*,} ;; esac
  case $last in
  store=* | node[0-9]*=*)
    local name=${last%%=*} IFS=$'\n'
    COMPREPLY=($(compgen -d -P "$before$name=" -- "${last#*=}"))
    ;;
  *) COMPREPLY=($(compgen -P "$before" -W "$_quorumfs_mount_options" -- "$last")) ;;
  esac
  compopt -o nospace
}

_quorumfs_options() {
  case $1 in
  mount) echo '-o --options= -f --foreground -c --create --reuse -q --quiet' ;;
  umount) echo '-l --lazy' ;;
  put) echo '-t --timestamp= -i --if-timestamp= -j --json' ;;
  delete) echo '-t --timestamp= -j --json' ;;
  status | nodes | scrub | repair | gc | partition) echo '-j --json' ;;
  watch) echo '-j --json -n --count=' ;;
  esac
  echo '-h --help -V --version'
}

# How many arguments that are no options stand between the command and the cursor; sets $first to the first of them.
_quorumfs_count_arguments() {
  local i skip=''
  count=0 first=''
  for ((i = 2; i < COMP_CWORD; i++)); do
    if [ -n "$skip" ]; then
      skip=''
      continue
    fi
    case ${COMP_WORDS[i]} in
    -o | -t | -i | -n | --options | --timestamp | --if-timestamp | --count | =) skip=yes ;;
    -*) ;;
    *)
      [ "$count" -gt 0 ] || first=${COMP_WORDS[i]}
      count=$((count + 1))
      ;;
    esac
  done
}

_quorumfs() {
  local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
  local count first
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W 'mount umount put get delete status nodes watch gc scrub repair partition
      --help --version' -- "$cur"))
    return
  fi
  # The readline of bash breaks words at '=': "--options=a" is three of them.
  if [ "$cur" = = ]; then
    cur=''
  elif [ "$previous" = = ]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case $command/$previous in
  mount/-o | mount/--options)
    _quorumfs_complete_mount_options
    return
    ;;
  put/-[ti] | delete/-t | watch/-n | */--timestamp | */--if-timestamp | */--count) return ;;
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$(_quorumfs_options "$command")" -- "$cur"))
    [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace
    return
  fi
  _quorumfs_count_arguments
  case $command/$count in
  nodes/1)
    local root=$first
    while [ ! -e "$root/.quorumfs/nodes" ] && [[ $root == */* ]]; do root=${root%/*}; done
    COMPREPLY=($(compgen -W "$(ls "$root/.quorumfs/nodes" 2>/dev/null)" -- "$cur"))
    ;;
  nodes/2) COMPREPLY=($(compgen -W 'up down crash evict' -- "$cur")) ;;
  partition/1) COMPREPLY=($(compgen -W heal -- "$cur")) ;;
  mount/0 | umount/0 | status/0 | nodes/0 | gc/0 | scrub/0 | repair/0 | partition/0)
    compopt -o filenames
    local IFS=$'\n'
    COMPREPLY=($(compgen -d -- "$cur"))
    ;;
  put/0 | get/0 | delete/0 | watch/0)
    compopt -o filenames
    local IFS=$'\n'
    COMPREPLY=($(compgen -f -- "$cur"))
    ;;
  esac
}
complete -F _quorumfs quorumfs
