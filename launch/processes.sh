#!/usr/bin/env bash
# Trains in N processes on this machine: bash launch/processes.sh N [flags of rtj.main]
#
# Each line that process I prints starts with "[I] ". Without flags it runs
# configs/ablation.py:zero_gamma. SIGINT (Ctrl-C) and SIGTERM are passed on, so the run
# saves and ends; a second one ends it at once. When a process fails the others are
# ended too. The exit code is that of the first process that did not return 0.
#
#   DEVICES        CPU devices of each process; default: 1
#   JAX_PLATFORMS  default: cpu, for the processes would all take the same accelerators
#   JAX_COORDINATOR_PORT  default: a free one
#
# See common.sh for PYTHON, RTJ_VENV and RTJ_EXTRAS.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || fail "usage: processes.sh N [flags of rtj.main]"
COUNT=$1
shift
prepare digits
(($#)) || set -- --config="$ROOT/configs/ablation.py:zero_gamma"
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} JAX_NUM_CPU_DEVICES=${DEVICES:-1}

# Below the ports that systems give to outgoing connections.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); do
    (: <"/dev/tcp/localhost/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

# Copies stdin with $1 before each line.
label() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    printf '%s%s\n' "$1" "$line"
  done
}

# Sends signal $1 to the processes that still run.
pass_on() {
  local pid
  for pid in "${PIDS[@]}"; do
    [[ -z $pid ]] || kill -"$1" "$pid" 2>/dev/null || true
  done
}

PORT=${JAX_COORDINATOR_PORT:-$(free_port)}
PIDS=() LABELS=()
PIPES=$(mktemp -d)
trap 'rm -rf -- "$PIPES"' EXIT
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
# Job control puts each process into a group of its own, or Ctrl-C would reach it twice,
# and bash would have it ignore the first.
set -m
for ((index = 0; index < COUNT; index++)); do
  mkfifo -- "$PIPES/$index.out" "$PIPES/$index.err"
  label "[$index] " <"$PIPES/$index.out" &
  LABELS+=($!)
  label "[$index] " <"$PIPES/$index.err" >&2 &
  LABELS+=($!)
  # -P: an rtj/ or configs/ in the caller's directory must not be imported.
  "$VENV_PYTHON" -P -m rtj.main --coordinator="localhost:$PORT" \
    --processes="$COUNT" --process="$index" "$@" \
    >"$PIPES/$index.out" 2>"$PIPES/$index.err" &
  PIDS+=($!)
done
set +m

# A process that fails tells the others, which then end within seconds with its message;
# one that fails before they have met cannot. A stopped run (3) may still be saving.
code=0 left=$COUNT patience=0
while ((left)); do
  for ((index = 0; index < COUNT; index++)); do
    pid=${PIDS[index]}
    [[ -n $pid ]] || continue
    ! kill -0 "$pid" 2>/dev/null || continue
    its_code=0
    wait "$pid" || its_code=$?
    PIDS[index]=
    left=$((left - 1))
    ((code)) || code=$its_code
  done
  if ((left && code && code != 3)); then
    patience=$((patience + 1)) # tenths of a second
    ((patience != 100)) || pass_on TERM
    ((patience != 200)) || pass_on KILL
  fi
  ((left == 0)) || sleep 0.1 || true
done
wait "${LABELS[@]}" || true
exit "$code"
