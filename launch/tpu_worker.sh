#!/usr/bin/env bash
# tpu_pod.sh's part on each worker of a pod: bash launch/tpu_worker.sh VERB
#
#   idle            fails if a run is in progress here
#   install         installs rtj, and Python 3.11 first if there is none
#   start FLAGS...  starts rtj.main with these flags and returns
#   follow LINES    prints the run's log, from tail's -n LINES, until the run ends
#   code            prints "rtj-exit CODE" when the run has ended
#   stop            sends the run SIGTERM: it saves and ends with exit code 3
#
# A run outlives the connection that started it, so a laptop may sleep. See common.sh
# for PYTHON, RTJ_VENV and RTJ_EXTRAS.
#
#   RTJ_RUN     where the run's process id, log and exit code are; default: ~/.rtj-run
#   RTJ_WAIT_S  how long `code` waits before it kills the run; default: 300
set -euo pipefail
# Outside the checkout, which each launch replaces.
export RTJ_VENV=${RTJ_VENV:-$HOME/.rtj-venv}
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
RUN=${RTJ_RUN:-$HOME/.rtj-run}

pid() { cat -- "$RUN/pid" 2>/dev/null; }

# Whether the process is the run's; after a reboot another may have its number.
is_running() {
  [[ $(ps -o args= -p "$(pid || echo 0)" 2>/dev/null) == *"tpu_worker.sh supervise"* ]]
}

idle() {
  is_running || return 0
  fail "a run is in progress on $(hostname), process $(pid); add --attach to follow it"
}

install_rtj() {
  # The TPU images are Ubuntu 22.04, whose own Python is 3.10.
  if ! (find_python) >/dev/null 2>&1; then
    say "installing Python 3.11 on $(hostname)"
    sudo apt-get -qq update >&2
    sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
      python3.11 python3.11-venv >&2
  fi
  prepare digits
}

# Prints the folder that $1 = gs://BUCKET/PATH is at here, mounting the bucket.
mounted() {
  local path=${1#gs://} bucket mount
  bucket=${path%%/*}
  mount=$HOME/.rtj-buckets/$bucket
  if ! mountpoint -q -- "$mount"; then
    command -v gcsfuse >/dev/null ||
      fail "--workdir=$1 needs gcsfuse on $(hostname), which is not installed"
    mkdir -p -- "$mount"
    # A checkpoint is renamed as a folder when complete, and one worker must see at
    # once what another wrote.
    gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 \
      --metadata-cache-negative-ttl-secs=0 "$bucket" "$mount" >&2 ||
      fail "gcsfuse could not mount gs://$bucket on $(hostname)"
  fi
  printf '%s\n' "$HOME/.rtj-buckets/$path"
}

start() {
  local flag folder flags=()
  idle
  for flag; do
    if [[ $flag == --workdir=gs://* ]]; then
      folder=$(mounted "${flag#--workdir=}") || exit
      flag=--workdir=$folder
    fi
    flags+=("$flag")
  done
  mkdir -p -- "$RUN"
  rm -f -- "$RUN/code"
  setsid bash "${BASH_SOURCE[0]}" supervise "${flags[@]}" \
    </dev/null >"$RUN/log" 2>&1 &
  printf '%s\n' "$!" >"$RUN/pid"
}

# Runs rtj.main, passes SIGTERM on to it and writes its exit code.
supervise() {
  local child='' code=0
  trap '[[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
  "$VENV_PYTHON" -P -m rtj.main "$@" &
  child=$!
  wait "$child" || code=$?
  # A trap ends `wait` before the child ends.
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  printf '%s\n' "$code" >"$RUN/code.new"
  mv -f -- "$RUN/code.new" "$RUN/code"
}

follow() {
  if is_running; then
    tail -n "$1" -f --pid="$(pid)" -- "$RUN/log"
  else
    tail -n "$1" -- "$RUN/log"
  fi
}

code() {
  local seconds=0
  while is_running && ((seconds < ${RTJ_WAIT_S:-300})); do
    sleep 1
    seconds=$((seconds + 1))
  done
  if is_running; then
    say "killing the run on $(hostname), which has not ended ${seconds} s after worker 0"
    kill -KILL -- "-$(pid)"
  fi
  # Without a file the supervisor was killed.
  printf 'rtj-exit %s\n' "$(cat -- "$RUN/code" 2>/dev/null || echo 137)"
}

stop() { ! is_running || kill -TERM "$(pid)"; }

case ${1:-} in
  install) install_rtj ;;
  idle | start | supervise | follow | code | stop) "$@" ;;
  *) fail "tpu_worker.sh: '${1:-}' is none of idle, install, start, follow, code, stop" ;;
esac
