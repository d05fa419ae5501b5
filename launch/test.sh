#!/usr/bin/env bash
# Installs what is missing and runs the tests: bash launch/test.sh [flags of pytest]
#
# It may be called from any directory, and relative paths in the flags are relative to
# that directory; without a path it runs all tests. See common.sh for PYTHON, RTJ_VENV
# and RTJ_EXTRAS.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

prepare digits test
for argument; do
  [[ -e ${argument%%::*} ]] && has_path=1
done
[[ -n ${has_path:-} ]] || set -- "$@" "$ROOT/tests"
exec "$VENV_PYTHON" -P -m pytest -c "$ROOT/pyproject.toml" "$@"
