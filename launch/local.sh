#!/usr/bin/env bash
# Installs what is missing and trains: bash launch/local.sh [flags of rtj.main]
#
# Without flags it runs configs/ablation.py:zero_gamma. It may be called from any
# directory, and relative paths in the flags are relative to that directory. See
# common.sh for PYTHON, RTJ_VENV and RTJ_EXTRAS.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

prepare digits
(($#)) || set -- --config="$ROOT/configs/ablation.py:zero_gamma"
# -P: an rtj/ or configs/ in the caller's directory must not be imported.
exec "$VENV_PYTHON" -P -m rtj.main "$@"
