#!/usr/bin/env bash
# Make or reuse .venv, then run the tests on all cores; options go to pytest.
#
#     bash tools/run_tests.sh [--stack NAME] [tests/test_ops] [-k NAME] [-m "not slow"] [-n 0]
#
# -n says how many processes share the tests; -n 0 or --pdb runs them in one, in order.
# --stack runs the core tests, or those that are named, with other versions of the packages, in an environment of their
# own: requirements/stacks/README.md says which there are.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What the backbones, their training and the configs need. Without tests of speed, search, servers, pictures and docs.
core=(
    tests/test_apis.py tests/test_budget.py tests/test_compat.py tests/test_configs.py tests/test_families.py
    tests/test_layering.py tests/test_sparsity.py tests/test_tools_train.py
    tests/test_cost/test_counter.py tests/test_cost/test_macs.py tests/test_cost/test_macs_dynamic.py
    tests/test_datasets tests/test_engine/test_hooks tests/test_engine/test_optim.py tests/test_engine/test_phases.py
    tests/test_models tests/test_ops tests/test_selectors
)

stack='' options=() named=
while [ "$#" -gt 0 ]; do
    case $1 in
    --stack) stack=${2:?--stack needs a name, as in --stack onedl} && shift ;;
    --stack=*) stack=${1#--stack=} && : "${stack:?--stack needs a name, as in --stack=onedl}" ;;
    *)
        options+=("$1")
        case $1 in tests | tests/*) named=yes ;; esac
        ;;
    esac
    shift
done

venv=.venv
if [ -n "$stack" ]; then
    bash tools/setup_env.sh --stack "$stack"
    if [ "$stack" != upstream ]; then venv=.venv-$stack; fi
    if [ -z "$named" ]; then options=("${core[@]}" -m 'not slow' ${options[@]+"${options[@]}"}); fi
else
    bash tools/setup_env.sh
fi

# The real data sets, where they lie beside the project. Tests that need them are skipped without.
if [ ! -e data ] && [ ! -L data ] && [ -d ../shared/data ]; then ln -s ../shared/data data; fi

# It says what to make the environment from; the scripts that tests start would run by it.
unset PYTHON

# Each process gets a run of neighbouring tests, since files share costly fixtures, and takes over more when it is done.
parallel=(-n auto --dist worksteal)
case " ${options[*]-} " in *no:xdist*) parallel=() ;; esac

exec "$venv/bin/python" -m pytest -q --durations=15 ${parallel[@]+"${parallel[@]}"} ${options[@]+"${options[@]}"}
