#!/usr/bin/env bash
# Trains on a Cloud TPU pod: bash launch/tpu_pod.sh OPTIONS -- FLAGS OF RTJ.MAIN
#
#   --name=NAME      the pod; made unless it is there
#   --zone=ZONE      its zone, e.g. us-west4-a
#   --type=TYPE      its accelerator type, e.g. v5litepod-256
#   --version=V      its runtime version; default: the one for the type
#   --project=P      its project; default: gcloud's
#   --spot           cheaper, and may be taken away at any time
#   --queued         wait in Google's queue for it instead of failing when none is free
#   --workdir=D      rtj's workdir, gs://BUCKET/PATH, mounted on each worker
#   --ref=REF        train this commit, branch or tag, cloned on the workers; default:
#                    this checkout, copied as it is
#   --repo=URL       where to clone it from; default: this checkout's origin
#   --attach         follow the run that is in progress there
#   --keep           leave the pod when the run has ended (the default)
#   --delete         delete it then, also after a failure
#   --dry-run        print the commands, one a line, and run none
#
# It starts rtj.main on all workers, prints the log of worker 0 and returns rtj's exit
# code (see rtj/errors.py), or 1 when a command fails, 2 for a bad option. Ctrl-C makes
# rtj save and stop. The same command resumes: on the same pod, and on a new one if
# --workdir is a bucket. A pod has one run at a time. gcloud needs its key in the agent
# for several workers: ssh-add ~/.ssh/google_compute_engine
set -euo pipefail
ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
WORKER="RTJ_EXTRAS=tpu bash rtj/launch/tpu_worker.sh"
POLL_S=${RTJ_POLL_S:-30}
FOLLOW_TRIES=10

name='' zone='' type='' version='' project='' workdir='' ref='' repo=''
spot='' queued='' attach='' delete='' dry_run=''
used='' started=''

say() { printf 'rtj: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# Prints "$@" as a shell reads it back.
quoted() {
  local line
  line=$(printf '%q ' "$@")
  printf '%s\n' "${line% }"
}

usage() {
  say "$*"
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# Sets the options from "$@" up to --, and FLAGS from what follows it.
parse() {
  while (($#)); do
    case $1 in
      --) break ;;
      --name=?* | --zone=?* | --type=?* | --version=?* | --project=?* | --ref=?* | \
        --repo=?* | --workdir=?*)
        local option=${1%%=*}
        printf -v "${option#--}" '%s' "${1#*=}"
        ;;
      --spot | --queued | --attach | --delete) printf -v "${1#--}" yes ;;
      --dry-run) dry_run=yes ;;
      --keep) delete='' ;;
      *) usage "tpu_pod.sh: bad option '$1'; flags of rtj.main go after --" ;;
    esac
    shift
  done
  FLAGS=("${@:2}")
  [[ -n $name && -n $zone ]] || usage "tpu_pod.sh: --name and --zone are missing"
  [[ -n $attach || -n $type ]] || usage "tpu_pod.sh: --type is missing"
  [[ -n $attach ]] || ((${#FLAGS[@]})) ||
    usage "tpu_pod.sh: no flags of rtj.main after --"
  [[ -z $workdir || $workdir == gs://?* ]] ||
    usage "tpu_pod.sh: --workdir=$workdir is not gs://BUCKET/PATH"
  [[ -z $workdir ]] || FLAGS+=("--workdir=$workdir")
}

# The runtime version for JAX on $type.
default_version() {
  case $type in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *) usage "tpu_pod.sh: --version is missing, and --type=$type has no default" ;;
  esac
}

# Runs "$@", or prints it.
run() {
  if [[ -n $dry_run ]]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

# Runs gcloud compute tpus "$@" where the pod is.
tpus() {
  run gcloud compute tpus "$@" --zone="$zone" ${project:+"--project=$project"} --quiet
}

# Runs the shell command $2 on the worker $1: 0, 1, ... or all.
ssh_to() { tpus tpu-vm ssh "$name" --worker="$1" --command="$2"; }

# Prints the state of the pod or of its request, nothing if there is none.
state() {
  local output kind=tpu-vm format='value(state)'
  [[ -z $queued ]] || kind=queued-resources format='value(state.state)'
  if [[ -n $dry_run ]]; then
    tpus "$kind" describe "$name" --format="$format" >&3
  elif output=$(tpus "$kind" describe "$name" --format="$format" 2>&1); then
    printf '%s\n' "${output##*$'\n'}"
  elif [[ $output != *NOT_FOUND* ]]; then
    printf '%s\n' "$output" >&2
    die "could not look for the pod $name in $zone; see above"
  fi
}

create() {
  say "making the pod $name, $type in $zone"
  used=yes
  if [[ -n $queued ]]; then
    tpus queued-resources create "$name" --node-id="$name" \
      --accelerator-type="$type" --runtime-version="$version" ${spot:+--spot} ||
      die "could not queue the request for the pod $name; see above"
  else
    tpus tpu-vm create "$name" --accelerator-type="$type" --version="$version" \
      ${spot:+--spot} || die "could not make the pod $name; see above. With --queued" \
      "it is made when there is room"
  fi
}

remove() {
  say "deleting the pod $name"
  if [[ -n $queued ]]; then
    tpus queued-resources delete "$name" --force
  else
    tpus tpu-vm delete "$name"
  fi
}

# Makes the pod unless it is there, and waits until it is ready.
make_pod() {
  local now
  now=$(state) || exit
  case $now in
    READY | ACTIVE) ;;
    '') create ;;
    PREEMPTED | TERMINATED | SUSPENDED | FAILED)
      # Such a pod cannot be started again.
      remove || die "could not delete the pod $name, which is $now; see above"
      create
      ;;
    *) [[ -n $queued ]] || die "the pod $name is $now; try again when it is READY" ;;
  esac
  used=yes
  [[ -z $queued ]] || await_queued
}

await_queued() {
  local now=''
  until now=$(state) && [[ -n $dry_run || $now == ACTIVE ]]; do
    case $now in
      '' | FAILED | SUSPEND*) die "the request for the pod $name is ${now:-gone}" ;;
    esac
    say "the request for the pod $name is $now"
    sleep "$POLL_S"
  done
}

# Puts the checkout, or the commit $ref, into rtj/ on the workers.
copy() {
  local archive=${TMPDIR:-/tmp}/rtj-$UID-$name.tar.gz
  local clone idle="{ [ ! -e rtj ] || $WORKER idle; } && rm -rf rtj"
  if [[ -n $ref ]]; then
    [[ -n $repo ]] || repo=$(git -C "$ROOT" remote get-url origin) ||
      die "--ref=$ref needs --repo=URL: this checkout has no origin"
    clone="git clone --quiet $(quoted "$repo") rtj"
    ssh_to all "$idle && $clone && git -C rtj checkout --quiet $(quoted "$ref")" ||
      die "could not clone $repo at $ref on the workers; see above"
    return
  fi
  # With .git, or the workdir would not name the commit.
  run tar -czf "$archive" -C "$ROOT" --exclude=./.venv --exclude=./runs \
    --exclude=__pycache__ . || die "could not pack $ROOT into $archive; see above"
  tpus tpu-vm scp "$archive" "$name:rtj.tar.gz" --worker=all ||
    die "could not copy $archive to the workers; see above"
  run rm -f "$archive"
  ssh_to all "$idle && mkdir rtj && tar -xzf rtj.tar.gz -C rtj" ||
    die "could not unpack rtj on the workers; see above"
}

start() {
  ssh_to all "$WORKER install" || die "could not install rtj on the workers; see above"
  ssh_to all "$WORKER start $(quoted "${FLAGS[@]}")" ||
    die "could not start rtj on the workers; see above"
}

# Prints worker 0's log until the run ends there.
follow() {
  local tries follower lines=+1
  for ((tries = 1; tries <= FOLLOW_TRIES; tries++)); do
    # In the background, where a Ctrl-C does not end it and does not wait for it.
    ssh_to 0 "$WORKER follow $lines" &
    follower=$!
    until wait "$follower"; do
      kill -0 "$follower" 2>/dev/null && continue
      lines=20
      continue 2
    done
    return
  done
  lost "could not follow the log of worker 0"
}

# Ends the script when the workers cannot be reached: $1.
lost() {
  local now
  now=$(state) || exit
  case $now in
    PREEMPTED | TERMINATED | SUSPEND* | '') ;;
    *) die "$1; the run goes on there. Follow it with --attach" ;;
  esac
  if [[ -z $workdir ]]; then
    die "the pod was preempted, and the run's state with it, for want of" \
      "--workdir=gs://...; this starts anew: $SELF"
  fi
  say "the pod was preempted; this resumes from the last checkpoint: $SELF"
  exit 3
}

# Ends the script with the exit code that says best why the run ended.
return_code() {
  local output codes code
  if [[ -n $dry_run ]]; then
    ssh_to all "$WORKER code"
    exit 0
  fi
  output=$(ssh_to all "$WORKER code") || lost "could not get the exit codes"
  codes=$(sed -n 's/^rtj-exit \([0-9]*\)$/\1/p' <<<"$output" | sort -un)
  [[ -n $codes ]] || die "the workers gave no exit code"
  # The workers that lose a peer fail too, so the causes come first: rtj's own
  # errors, then crashes, then lost peers (7), then a stop (3).
  for code in 2 5 6 4 $(grep -vxE '[0234567]' <<<"$codes") 7 3 0; do
    ! grep -qx "$code" <<<"$codes" || exit "$code"
  done
}

on_signal() {
  if [[ -z $started ]]; then
    say "ended before the run started"
    exit 130
  fi
  say "asking rtj to save and stop; once more ends it without saving"
  ssh_to all "$WORKER stop" || say "could not reach the workers; see above"
}

finish() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  if [[ -n $delete && -n $used ]] && ! remove; then
    say "could not delete the pod $name, which costs money while it is there; see above"
    ((status)) || status=1
  fi
  exit "$status"
}

main() {
  SELF=$(quoted bash "$0" "$@")
  parse "$@"
  [[ -n $attach || -n $version ]] || version=$(default_version) || exit
  [[ -n $dry_run ]] || command -v gcloud >/dev/null ||
    die "gcloud is not on PATH; install the Google Cloud CLI"
  trap finish EXIT
  trap on_signal INT TERM
  if [[ -n $attach ]]; then
    used=yes
  else
    make_pod
    copy
    start
  fi
  started=yes
  follow
  return_code
}

# 3: the commands that a dry run prints from within $(...).
exec 3>&1
main "$@"
