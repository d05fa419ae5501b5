# Sourced by local.sh and test.sh: finds Python and makes the virtual environment.
#
#   PYTHON      the Python to make it with; default: the first of python3.13,
#               python3.12, python3.11, python3, python that is 3.11 or newer
#   RTJ_VENV    where it is; default: .venv in the repository
#   RTJ_EXTRAS  more extras of pyproject.toml, comma-separated: tpu, cuda, ...
#
# An environment made here holds two marks: .rtj-made, that these scripts made it and
# may delete it, and .rtj-stamp, written last, that it is complete, and for what. One
# without a stamp was interrupted and is made again. Only pip needs the network, and
# pip runs only if the stamp does not fit.

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${RTJ_VENV:-$ROOT/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
VENV_PYTHON=$VENV/bin/python
STAMP=$VENV/.rtj-stamp
KNOWN_EXTRAS="bench coco cuda digits fast notebook plan plot test tpu weights"

say() { printf 'rtj: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 2
}

# Prints the version of Python $1 as 3.11, or nothing if it does not run.
version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Whether the version $1 is 3.11 or newer.
is_new_enough() { [[ $1 =~ ^3\.([0-9]+)$ ]] && ((BASH_REMATCH[1] >= 11)); }

# Prints the Python to make the environment with.
find_python() {
  local candidate version
  if [[ -n ${PYTHON:-} ]]; then
    version=$(version_of "$PYTHON") || fail "PYTHON=$PYTHON does not run"
    is_new_enough "$version" ||
      fail "PYTHON=$PYTHON is Python $version; 3.11 or newer is needed"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if version=$(version_of "$candidate") && is_new_enough "$version"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer on PATH; install one, or set PYTHON to its path"
}

# What a complete environment's stamp starts with; its last line is the extras.
stamp_head() {
  printf 'root %s\n' "$ROOT"
  printf 'python %s\n' "$(version_of "$VENV_PYTHON")"
  printf 'pyproject %s\n' "$(cksum <"$ROOT/pyproject.toml")"
}

# Prints the extras of the stamp, space-separated.
stamped_extras() { sed -n 's/^extras //p' "$STAMP" 2>/dev/null; }

# Whether the environment is complete and has the extras "$@".
is_ready() {
  local extra
  [[ -f $STAMP && -x $VENV_PYTHON ]] || return 1
  [[ $(sed '$d' "$STAMP") == "$(stamp_head)" ]] || return 1
  for extra; do
    [[ " $(stamped_extras) " == *" $extra "* ]] || return 1
  done
  fits_python
}

# Whether the environment is of the version of PYTHON, or need not be.
fits_python() {
  [[ -z ${PYTHON:-} || ! -f $VENV/.rtj-made ]] ||
    [[ $(version_of "$PYTHON") == "$(version_of "$VENV_PYTHON")" ]]
}

# Whether what stands at $VENV can be kept and only needs another pip install.
is_kept() {
  local version
  [[ -f $VENV/pyvenv.cfg ]] || return 1
  version=$(version_of "$VENV_PYTHON") || return 1
  is_new_enough "$version" || return 1
  [[ -f $VENV/.rtj-made ]] || return 0
  grep -qxF "root $ROOT" "$STAMP" 2>/dev/null || return 1
  grep -qxF "python $version" "$STAMP" || return 1
  fits_python
}

make_venv() {
  local python
  if [[ -e $VENV && ! -f $VENV/.rtj-made ]]; then
    [[ -d $VENV && -z $(ls -A -- "$VENV") ]] || fail "$VENV exists, is not an" \
      "environment with Python 3.11 or newer, and was not made here; remove it or set" \
      "RTJ_VENV"
  fi
  python=$(find_python) || exit
  say "making $VENV with $python (Python $(version_of "$python"))"
  mkdir -p -- "$VENV"
  : >"$VENV/.rtj-made"
  # The mark stays while the rest goes, or a kill would leave what looks like another's.
  find "$VENV/" -mindepth 1 -maxdepth 1 ! -name .rtj-made -exec rm -rf -- {} +
  "$python" -m venv "$VENV" >&2 && return
  # Debian's Python has no ensurepip unless python3-venv is installed.
  say "trying again with the pip of $python"
  "$python" -m venv --without-pip "$VENV" >&2 &&
    "$python" -m pip --python "$VENV_PYTHON" install --quiet pip >&2 ||
    fail "$python cannot make an environment; on Debian install python3-venv"
}

# Installs the package with the extras "$@" and writes the stamp.
install() {
  local extras
  extras=$(printf '%s\n' "$@" $(stamped_extras) | sort -u)
  [[ ! -f $STAMP ]] || mv -f -- "$STAMP" "$STAMP.old"
  say "installing rtj[${extras//$'\n'/,}] into $VENV"
  if ! (cd -- "$ROOT" && "$VENV_PYTHON" -m pip install --quiet \
    --disable-pip-version-check --editable ".[${extras//$'\n'/,}]") >&2; then
    # A pip that gave up by itself, offline say, has left what was there usable.
    [[ ! -f $STAMP.old ]] || mv -f -- "$STAMP.old" "$STAMP"
    fail "pip could not install rtj; see above"
  fi
  { stamp_head && printf 'extras %s\n' "${extras//$'\n'/ }"; } >"$STAMP.new"
  mv -f -- "$STAMP.new" "$STAMP"
}

# Makes $VENV_PYTHON run rtj with the extras "$@" and those of RTJ_EXTRAS.
prepare() {
  local extra extras=${RTJ_EXTRAS:-} wanted=("$@")
  for extra in ${extras//,/ }; do
    [[ " $KNOWN_EXTRAS " == *" $extra "* ]] ||
      fail "RTJ_EXTRAS has '$extra'; the extras are: $KNOWN_EXTRAS"
    wanted+=("$extra")
  done
  is_ready "${wanted[@]}" && return
  mkdir -p -- "$(dirname -- "$VENV")"
  exec 9>"$VENV.lock"
  if command -v flock >/dev/null && ! flock -n 9; then
    say "waiting for another install into $VENV"
    flock 9
  fi
  if ! is_ready "${wanted[@]}"; then
    is_kept || make_venv
    install "${wanted[@]}"
  fi
  exec 9>&-
}
