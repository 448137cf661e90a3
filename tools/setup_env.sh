#!/usr/bin/env bash
# Make .venv in the project root, or complete it, or find in a second that nothing is to do.
#
#     bash tools/setup_env.sh [--stack NAME]
#
# quickstart.sh and run_tests.sh call this first. It needs Python 3.10-3.12 and, once, a C++ compiler: mmcv has no
# wheel on PyPI, so its operators are compiled here and the wheel is kept for the next environment.
#
# --stack NAME         other versions of the packages, in .venv-NAME; requirements/stacks/README.md says which there are
# PYTHON               the Python to make .venv from (default: python3)
# SPARSEVIT_MM_TORCH   which torch: words of a pip install command ("torch==2.8.0 --index-url ..."), the path of a
#                      wheel, or "installed" for the one that PYTHON already has. A torch in .venv is never replaced.
# XDG_CACHE_HOME       where mmcv is built and kept (default: ~/.cache), below sparsevit_mm/
# MAX_JOBS             how many files mmcv compiles at once (default: by cores and memory)
# MMCV_CPU_ONLY=1      compile mmcv for the CPU even where torch sees a GPU
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sparsevit_mm
REQUIREMENTS=$ROOT/requirements
BASE_PYTHON=${PYTHON:-python3}
INSTALLED=(build runtime det seg det3d_env search postgres export demo dev) # files of requirements/, and then mmdet3d
JOB=

say() { printf '[set-up %3ds] %s\n' "$SECONDS" "$*"; }

fail() {
    printf '\nset-up stopped: %s\n' "$1" >&2
    shift
    if [ "$#" -gt 0 ]; then printf '  %s\n' "$@" >&2; fi
    exit 1
}

# ---------------------------------------------------------------- which packages, and where

choose_stack() {
    STACK=upstream
    case ${1:-} in
    '') ;;
    --stack=*) STACK=${1#--stack=} ;;
    --stack) STACK=${2:-} && shift ;;
    *) fail "$1 is no option." 'bash tools/setup_env.sh [--stack NAME]' ;;
    esac
    if [ "$#" -gt 1 ]; then fail "$2 is one word too many." 'bash tools/setup_env.sh [--stack NAME]'; fi
    OVERLAY=$REQUIREMENTS/stacks/$STACK
    VENV=$ROOT/.venv-$STACK
    if [ "$STACK" = upstream ]; then
        VENV=$ROOT/.venv
    elif [ -z "$STACK" ] || [ "${STACK##*/}" != "$STACK" ] || [ ! -f "$OVERLAY/constraints.txt" ]; then
        fail "there is no stack '$STACK'. These are: upstream $(stacks)" "requirements/stacks/README.md says how to define one."
    fi
    PY=$VENV/bin/python
    STAMP=$VENV/.sparsevit_mm
    MMCV_PIN=$(pins | awk '/^[a-z0-9-]*mmcv==/ && !found { print; found = 1 }')
    MMCV_NAME=${MMCV_PIN%%==*}
    MMCV=${MMCV_PIN##*==}
}

stacks() {
    find "$REQUIREMENTS/stacks" -mindepth 2 -name constraints.txt | sed 's|/constraints.txt$||; s|.*/||' | sort | xargs
}

# A requirement file by its name: a stack has its own, or the common one.
requirements_of() {
    if [ -f "$OVERLAY/$1.txt" ]; then echo "$OVERLAY/$1.txt"; else echo "$REQUIREMENTS/$1.txt"; fi
}

# The versions of this stack: its own pins first, then the common ones of every other package.
pins() {
    if [ ! -f "$OVERLAY/constraints.txt" ]; then
        cat "$REQUIREMENTS/constraints.txt"
        return
    fi
    awk '/^[[:space:]]*(#|$)/ { next }
        { name = tolower($0); sub(/[^a-z0-9._-].*/, "", name); gsub(/[._]+/, "-", name) }
        FILENAME == ARGV[1] { own[name] = 1; print; next }
        !(name in own)' "$OVERLAY/constraints.txt" "$REQUIREMENTS/constraints.txt"
}

packages_in() { sed -n 's/^\([A-Za-z0-9][A-Za-z0-9._-]*\).*/\1/p' "$(requirements_of "$1")"; }

has_mmdet3d() { [ -n "$(packages_in det3d_env)" ]; }

mm_packages() {
    echo "$MMCV_NAME"
    packages_in det
    packages_in seg
    if has_mmdet3d; then echo mmdet3d; fi
}

# ---------------------------------------------------------------- is there anything to do?

# One line that changes when something has to be installed: files, place, interpreter, torch and what is there.
fingerprint() {
    "$PY" -I - "$ROOT" "$STACK" "$(mm_packages)" <<'PYTHON'
import hashlib, sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

root, stack, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split()
digest = hashlib.sha256(f'{root} {sys.version}'.encode())
requirements = root / 'requirements'
files = [*sorted(requirements.glob('*.txt')), *sorted((requirements / 'stacks' / stack).glob('*.txt'))]
for path in (*files, root / 'setup.py', root / 'tools' / 'setup_env.sh'):
    digest.update(path.read_bytes())
for name in ('torch', *names, 'optuna', 'pytest', 'pytest-xdist', 'sparsevit_mm'):
    try:
        digest.update(f'{name}{version(name)}'.encode())
    except PackageNotFoundError:
        sys.exit(f'{name} is missing')
print(digest.hexdigest())
PYTHON
}

all_there() {
    [ -x "$PY" ] && [ -f "$STAMP" ] && [ "$(fingerprint 2>/dev/null)" = "$(cat "$STAMP")" ]
}

# ---------------------------------------------------------------- can this machine do it?

check_python() {
    local advice=(
        'Debian, Ubuntu: sudo apt-get install python3 python3-venv python3-dev'
        'Fedora:         sudo dnf install python3.12 python3.12-devel'
        'conda:          conda create -n py311 python=3.11 && conda activate py311'
        'macOS:          brew install python@3.12'
        'Then, if it is not the default: PYTHON=python3.12 bash tools/setup_env.sh'
    )
    local python=$BASE_PYTHON other
    if [ -x "$PY" ]; then python=$PY; fi
    command -v "$python" >/dev/null || fail "there is no Python called '$python'. Install Python 3.10, 3.11 or 3.12:" "${advice[@]}"
    if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        if [ "$python" = "$PY" ]; then
            fail "$VENV was made with $("$python" --version 2>&1), but 3.10, 3.11 or 3.12 is needed." \
                "Remove that folder and run this again."
        fi
        for other in python3.12 python3.11 python3.10; do
            if "$other" -c '' 2>/dev/null; then
                fail "'$python' is $("$python" --version 2>&1), but 3.10, 3.11 or 3.12 is needed. There is one here; run:" \
                    "PYTHON=$other bash tools/setup_env.sh"
            fi
        done
        fail "'$python' is $("$python" --version 2>&1), but 3.10, 3.11 or 3.12 is needed. Install one of them:" "${advice[@]}"
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || [ "$python" = "$PY" ] ||
        fail "'$python' comes without venv and ensurepip. Install them:" "${advice[@]}"
}

check_compiler() {
    local python=$BASE_PYTHON cxx tag
    if [ -x "$PY" ]; then python=$PY; fi
    tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    if compgen -G "$CACHE/wheels/$MMCV_NAME$MMCV-$tag-*/*.whl" >/dev/null; then return; fi
    if [ -x "$PY" ] && mmcv_works; then return; fi
    require_compiler "$python"
}

# A compiler for extensions of a Python, of C++17 or of the standard that is asked for.
require_compiler() {
    local python=$1 standard=${2:-c++17} cxx scratch
    local advice=(
        'Debian, Ubuntu: sudo apt-get install g++ python3-dev'
        'Fedora:         sudo dnf install gcc-c++ python3-devel'
        'conda:          conda install -c conda-forge cxx-compiler'
        'macOS:          xcode-select --install'
        'or, with CUDA, take a ready mmcv by mim as the README shows.'
    )
    scratch=$(mktemp -d)
    for cxx in ${CXX:-c++ g++ clang++}; do
        if echo 'int main() {}' | "$cxx" "-std=$standard" -x c++ -o "$scratch/out" - 2>/dev/null; then
            rm -rf "$scratch"
            export CXX=$cxx
            "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
                fail "the headers of $("$python" --version 2>&1) are missing (Python.h). Install them:" "${advice[@]}"
            return
        fi
    done
    rm -rf "$scratch"
    fail "no C++ compiler that knows $standard is here, and mmcv has to be compiled once. Install one:" "${advice[@]}"
}

check_torch_choice() {
    local choice=${SPARSEVIT_MM_TORCH:-}
    if [ "$choice" != installed ] || [ -x "$PY" ]; then return; fi
    "$BASE_PYTHON" -c 'import torch' 2>/dev/null ||
        fail "SPARSEVIT_MM_TORCH=installed, but '$BASE_PYTHON' cannot import torch." \
            'Install torch for it, choose another by PYTHON=..., or leave SPARSEVIT_MM_TORCH out.'
}

# ---------------------------------------------------------------- one set-up at a time, and no orphans

take_lock() {
    mkdir -p "$CACHE" 2>/dev/null || true
    [ -w "$CACHE" ] || fail "the cache folder $CACHE cannot be written to." 'Choose another by XDG_CACHE_HOME=/a/folder.'
    if command -v flock >/dev/null; then
        exec 9>"$CACHE/setup.lock"
        if ! flock -n 9; then
            say 'another set-up is at work, or what a killed one left compiling: waiting for it'
            until flock -w 60 9; do say '... still waiting'; done
        fi
        return
    fi
    local lock=$CACHE/setup.lock.d owner
    until mkdir "$lock" 2>/dev/null; do
        owner=$(cat "$lock/pid" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -rf "$lock"
            continue
        fi
        say "another set-up is at work (process ${owner:-unknown}): waiting for it"
        sleep 5
    done
    echo $$ >"$lock/pid"
    LOCK_DIR=$lock
}

finish() {
    local status=$?
    trap - EXIT
    if [ -n "$JOB" ]; then kill -- "-$JOB" 2>/dev/null || true; fi
    if [ -n "${LOCK_DIR:-}" ]; then rm -rf "$LOCK_DIR"; fi
    exit "$status"
}

# run_step TITLE LOG COMMAND...: run with its output in a log, and say now and then how far it is.
run_step() {
    local title=$1 log=$2 start=$SECONDS told=$SECONDS status=0
    shift 2
    say "$title (log: $log)"
    set -m # a process group of its own, which Ctrl-C then ends as a whole
    "$@" >>"$log" 2>&1 </dev/null &
    JOB=$!
    set +m
    while kill -0 "$JOB" 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - told)) -ge 30 ]; then
            told=$SECONDS
            say "... $((SECONDS - start)) s$(progress "$log")"
        fi
    done
    wait "$JOB" || status=$?
    JOB=
    if [ "$status" -ne 0 ]; then
        printf '\n--- the end of %s\n' "$log" >&2
        tail -n 25 "$log" >&2
    fi
    return "$status"
}

# What ninja or pip said last.
progress() {
    local counter
    counter=$(tail -c 200000 "$1" | grep -o '^\[[0-9]*/[0-9]*\]' | tail -n 1 || true)
    if [ -n "$counter" ]; then
        printf ', %s files compiled' "$(tr -d '[]' <<<"$counter" | sed 's|/| of |')"
    else
        printf ', %s' "$(tail -n 1 "$1" | tr -s '[:space:]' ' ' | cut -c 1-90)"
    fi
}

# ---------------------------------------------------------------- the steps

pip_install() { "$PY" -m pip install --disable-pip-version-check --progress-bar off "$@"; }

install_step() {
    local title=$1
    shift
    run_step "$title" "$VENV/setup.log" pip_install "$@" || fail "pip could not install what is needed." \
        'A lost connection: run the same command again, it goes on where it was.' \
        'No matching version: this Python or machine lacks a wheel; the end of the log above names the package.' \
        "If .venv itself is damaged: rm -rf $VENV, and run it again."
}

make_venv() {
    local options=()
    if [ -x "$PY" ]; then
        "$PY" -m pip --version >/dev/null 2>&1 || "$PY" -m ensurepip --upgrade >/dev/null
        return
    fi
    say "making $VENV with $("$BASE_PYTHON" --version 2>&1)"
    if [ "${SPARSEVIT_MM_TORCH:-}" = installed ]; then options=(--system-site-packages); fi
    "$BASE_PYTHON" -m venv ${options[@]+"${options[@]}"} "$VENV"
    echo '*' >"$VENV/.gitignore"
}

torch_version() { "$PY" -c 'import torch; print(torch.__version__)' 2>/dev/null; }

install_torch() {
    local choice=${SPARSEVIT_MM_TORCH:-} words=()
    if torch_version >/dev/null; then
        say "torch $(torch_version) is there"
        return
    fi
    case $choice in
    '')
        install_step 'installing torch; its default build may bring CUDA libraries of some GB' \
            -r "$(requirements_of torch)"
        ;;
    installed)
        fail "SPARSEVIT_MM_TORCH=installed, but $VENV does not see a torch." "Remove that folder and run this again."
        ;;
    *)
        if [ -f "$choice" ]; then words=("$choice"); else read -r -a words <<<"$choice"; fi
        install_step "installing torch as asked: $choice" "${words[@]}"
        ;;
    esac
    torch_version >/dev/null || {
        "$PY" -c 'import torch' || true
        fail 'torch is installed, but it cannot be imported (see above).' "Choose another by SPARSEVIT_MM_TORCH=..., after rm -rf $VENV."
    }
}

# Which operators mmcv gets, and the name under which its wheel is kept.
mmcv_key() {
    "$PY" - "$MMCV_NAME$MMCV" "${MMCV_CPU_ONLY:-0}" <<'PYTHON'
import os, sys, sysconfig
import torch
from torch.utils.cpp_extension import CUDA_HOME

kind = 'cpu'
if sys.argv[2] != '1' and (torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'):
    if torch.version.hip:
        kind = 'rocm' + torch.version.hip
    elif CUDA_HOME is None:
        print(f'torch {torch.__version__} has CUDA, but there is no nvcc: the operators of mmcv are compiled for the CPU '
              'only. For the GPU install the CUDA toolkit, or take a ready mmcv by mim as the README shows.', file=sys.stderr)
    else:
        kind = 'cu' + torch.version.cuda.replace('.', '')
machine = sysconfig.get_platform().replace('.', '_')
print(f'{sys.argv[1]}-cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}-{kind}-{machine}')
PYTHON
}

mmcv_works() {
    # In .venv any mmcv that the mm packages take may be there already, as from mim.
    "$PY" -W ignore - "$STACK" "$MMCV_NAME" "$MMCV" <<'PYTHON' 2>/dev/null
import sys
from importlib.metadata import version
import mmcv._ext
from mmengine.utils import digit_version
stack, name, pin = sys.argv[1:]
if stack == 'upstream':
    sys.exit(not digit_version('2.0.0rc4') <= digit_version(mmcv.__version__) < digit_version('2.2.0'))
sys.exit(version(name) != pin)
PYTHON
}

install_mmcv() {
    local key wheels
    if mmcv_works; then return; fi
    key=$(mmcv_key)
    wheels=$CACHE/wheels/$key
    compgen -G "$wheels/*.whl" >/dev/null || build_mmcv "$key"
    install_step "installing mmcv from $wheels" --force-reinstall --no-deps --no-index "$wheels"/*.whl
    mmcv_works || {
        "$PY" -c 'import mmcv._ext' || true
        fail 'mmcv is installed, but its operators cannot be loaded (see above).' "Compile them anew: rm -rf $wheels, and run this again."
    }
}

fetch_mmcv() {
    local sdist=$1 scratch
    if [ -f "$sdist" ]; then return; fi
    scratch=$(mktemp -d "$CACHE/build/.download.XXXXXX")
    run_step "downloading the source of $MMCV_NAME $MMCV" "$CACHE/build/download.log" "$PY" -m pip download \
        --disable-pip-version-check --progress-bar off --no-deps --no-binary "$MMCV_NAME" --no-build-isolation \
        -d "$scratch" "$MMCV_PIN" || fail "the source of $MMCV_NAME could not be downloaded." 'Run the same command again when the network is back.'
    mv "$scratch"/*.tar.gz "$sdist"
    rm -rf "$scratch"
}

# Everything lies in the cache: ninja goes on after an interruption with the files that are not compiled yet.
build_mmcv() {
    local key=$1 build=$CACHE/build/$1 sdist=$CACHE/build/$MMCV_NAME-$MMCV.tar.gz log=$CACHE/build/$1.log
    require_compiler "$PY" "$(cxx_standard)"
    mkdir -p "$CACHE/build" "$CACHE/wheels"
    fetch_mmcv "$sdist"
    if [ ! -d "$build" ]; then
        rm -rf "$build.new"
        mkdir "$build.new"
        tar -xzf "$sdist" -C "$build.new"
        mv "$build.new" "$build"
    fi
    rm -rf "$build/dist"
    : >"$log"
    run_step "compiling $MMCV_NAME $MMCV with $CXX, $(jobs_at_once) files at once; once on this machine, some 5 to 20 minutes" \
        "$log" compile_mmcv "$build" "$key" || fail 'mmcv could not be compiled.' \
        'Killed, or out of memory: run it again with MAX_JOBS=1; it goes on where it was.' \
        'CUDA: MMCV_CPU_ONLY=1 compiles for the CPU only, and the README shows how to take a ready mmcv by mim.' \
        "Anything else: the first 'error:' in $log says what. To start afresh: rm -rf $build"
    rm -rf "$CACHE/wheels/$key.new" "${CACHE:?}/wheels/$key"
    mv "$build/dist" "$CACHE/wheels/$key.new"
    mv "$CACHE/wheels/$key.new" "$CACHE/wheels/$key"
    rm -rf "$build"
}

compile_mmcv() {
    cd "$1"/*"mmcv-$MMCV" || return # a name in a source archive has _ where the package has -
    export MMCV_WITH_OPS=1 FORCE_CUDA=0 MAX_JOBS
    MAX_JOBS=$(jobs_at_once)
    case $2 in
    *-cpu-*) export CUDA_VISIBLE_DEVICES='' ;;
    *) FORCE_CUDA=1 ;;
    esac
    sed -i.bak "s/-std=c++17/-std=$(cxx_standard)/" setup.py
    "$PY" setup.py bdist_wheel --dist-dir "$1/dist"
}

# The C++ that the headers of torch ask for: mmcv says C++17, and newer ones want more.
cxx_standard() {
    local headers
    headers=$("$PY" -c 'import torch; print(torch.__path__[0])')/include
    if grep -qs 'C++20 or later' "$headers/ATen/ATen.h"; then echo c++20; else echo c++17; fi
}

# A compiler of torch's headers takes up to 2 GB.
jobs_at_once() {
    "$PY" - "${MAX_JOBS:-}" <<'PYTHON'
import os, sys
import psutil
print(sys.argv[1] or max(1, min(os.cpu_count() or 1, psutil.virtual_memory().available // 2**31)))
PYTHON
}

install_rest() {
    local torch_pin=$VENV/torch-constraint.txt name files=()
    # The version of the package: torch.__version__ may have +cu at its end where that has not.
    "$PY" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$torch_pin"
    for name in "${INSTALLED[@]}"; do files+=(-r "$(requirements_of "$name")"); done
    install_step 'installing mmdet, mmseg and the rest' -c "$VENV/constraints.txt" -c "$torch_pin" "${files[@]}"
    if has_mmdet3d; then install_step 'installing mmdet3d' --no-deps -c "$VENV/constraints.txt" mmdet3d; fi
    install_mmcv
    install_step 'installing this project' --no-deps --no-build-isolation --no-index -e "$ROOT"
}

check_imports() {
    local modules='mmcv.ops, mmdet.utils, mmseg.utils, optuna, sparsevit_mm'
    if has_mmdet3d; then modules="mmdet3d.utils, $modules"; fi
    say 'checking that all of it imports together'
    "$PY" -W ignore -c "import $modules" >>"$VENV/setup.log" 2>&1 || {
        tail -n 15 "$VENV/setup.log" >&2
        fail 'the environment is installed, but does not import (see above).' "Make it anew: rm -rf $VENV, and run this again."
    }
}

main() {
    choose_stack "$@"
    if all_there; then return; fi
    check_python
    check_torch_choice
    check_compiler
    take_lock
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if all_there; then return; fi # another set-up has done it meanwhile
    rm -f "$STAMP"
    make_venv
    : >"$VENV/setup.log"
    pins >"$VENV/constraints.txt"
    install_step 'installing what the build of mmcv needs' -c "$VENV/constraints.txt" -r "$(requirements_of build)"
    install_torch
    install_rest
    check_imports
    fingerprint >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
    say "$VENV is ready"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
