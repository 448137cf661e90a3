#!/usr/bin/env bash
# Make or reuse .venv, then train, adapt, search and compare on the embedded demo set: about 10 minutes on 2 cores.
#
#     bash tools/quickstart.sh [--smoke]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh
exec .venv/bin/python tools/quickstart.py "$@"
