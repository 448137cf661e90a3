#!/usr/bin/env bash
# Make or reuse .venv, then run the tests on all cores; options go to pytest.
#
#     bash tools/run_tests.sh [tests/test_ops] [-k NAME] [-m "not slow"] [-n 0]
#
# -n says how many processes share the tests; -n 0 or --pdb runs them in one, in order.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh

# The real data sets, where they lie beside the project. Tests that need them are skipped without.
if [ ! -e data ] && [ ! -L data ] && [ -d ../shared/data ]; then ln -s ../shared/data data; fi

# Each process gets a run of neighbouring tests, since files share costly fixtures, and takes over more when it is done.
parallel=(-n auto --dist worksteal)
case " $* " in *no:xdist*) parallel=() ;; esac

exec .venv/bin/python -m pytest -q --durations=15 ${parallel[@]+"${parallel[@]}"} "$@"
