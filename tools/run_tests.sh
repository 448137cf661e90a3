#!/usr/bin/env bash
# Make or reuse .venv, then run the tests; options go to pytest.
#
#     bash tools/run_tests.sh [tests/test_ops] [-k NAME] [-m "not slow"]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh

# The real data sets, where they lie beside the project. Tests that need them are skipped without.
if [ ! -e data ] && [ ! -L data ] && [ -d ../shared/data ]; then ln -s ../shared/data data; fi

exec .venv/bin/python -m pytest -q --durations=15 "$@"
