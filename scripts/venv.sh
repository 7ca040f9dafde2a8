# shellcheck shell=bash
# Makes or reuses the virtual environment that the scripts run in. To be sourced; then: use_venv EXTRAS
#
# VENV=DIR          where it is (default: .venv in the repository)
# PYTHON=COMMAND    what makes it (default: the first of python3, python3.13 … python3.10 that can)
# TORCH_INDEX=URL   where torch's builds are; empty for wherever pip looks anyway (default: the CPU builds)
#
# pip runs only when something to install has changed since it last ran.

set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}
[[ $venv = /* ]] || venv=$PWD/$venv
python=$venv/bin/python
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
supported='(3, 10) <= sys.version_info[:2] <= (3, 13)'

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# supported_python COMMAND: is it a Python that we run on? (A pyenv shim is there and does not run.)
supported_python() { "$1" -c "import sys; sys.exit(not $supported)" >/dev/null 2>&1; }

# choose_python: print the command of a Python that can make a virtual environment.
choose_python() {
    local candidate without_venv=''
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        supported_python "$candidate" || continue
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    [ -z "$without_venv" ] || die "$without_venv cannot make virtual environments: apt install $(
        "$without_venv" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'
    ) (or python3-venv)"
    [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python of 3.10 to 3.13 that runs"
    die "Python 3.10 to 3.13 is needed, and none was found: apt install python3 python3-venv," \
        "or say where one is: PYTHON=/path/to/python3"
}

# make_venv: see to it that $python runs and has pip.
make_venv() {
    if [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A -- "$venv" 2>/dev/null)" ]; then
        die "$venv is not empty and no virtual environment: name another with VENV=DIR"
    fi
    if ! "$python" -c '' 2>/dev/null; then
        local base
        base=$(choose_python)
        say "making $venv with $("$base" -V)"
        "$base" -m venv --clear "$venv"
    fi
    supported_python "$python" ||
        die "$venv is made with $("$python" -V 2>&1), and 3.10 to 3.13 is needed: rm -r $venv, and try again"
    # pip is the last thing that is made, so without it somebody pressed Ctrl-C meanwhile
    "$python" -c 'import pip' 2>/dev/null || "$python" -m ensurepip >/dev/null
}

# fingerprint: print what the result of an installation depends on, as one word.
fingerprint() {
    (
        cat -- "$root/setup.cfg" "$root/pyproject.toml" "$root/constraints.txt"
        "$python" -VV
        echo "$root $torch_index"
    ) | sha256sum | cut -d ' ' -f 1
}

# index_options: print the pip option for torch's builds, if their index answers. Plain PyPI's torch brings gigabytes
# of CUDA along, and pip takes 2.13.0+cpu before 2.13.0 when it sees both. Asked first, and with pip's own HTTP
# library (its certificates, its proxies), because pip would go on trying an index that is not there for minutes.
index_options() {
    [ -n "$torch_index" ] || return 0
    if timeout 6 "$python" - "${torch_index%/}/torch/" 2>/dev/null <<'PYTHON'; then
import sys
from pip._vendor import requests
requests.head(sys.argv[1], timeout=3, allow_redirects=True).raise_for_status()
PYTHON
        echo "--extra-index-url=$torch_index"
    else
        say "${torch_index} does not answer: torch comes from wherever pip looks"
    fi
}

# show_steps: of pip's output, the lines that tell a person that it is getting on.
show_steps() {
    sed -u -n -E -e 's/^ *((Downloading|Using cached|Processing) [^ ]+ .*)/  \1/p' \
        -e 's/^(Installing collected packages|Successfully built [^ ]+).*/  \1/p' >&2
}

# install EXTRAS
install() {
    local log=$venv/install.log option command
    command=("$python" -m pip install --disable-pip-version-check -c constraints.txt -e ".[$1]")
    option=$(index_options)
    [ -z "$option" ] || command+=("$option")
    say "installing $1 into $venv (torch is about 200 MB; the log is $log)"
    cd -- "$root"
    if [ -t 2 ]; then
        "${command[@]}" --log "$log" >&2
    else
        PYTHONUNBUFFERED=1 "${command[@]}" 2>&1 | tee -- "$log" | show_steps
    fi || {
        [ -t 2 ] || tail -n 40 -- "$log" >&2
        die "pip could not install $1; all it said is in $log"
    }
}

# use_venv EXTRAS (as in setup.cfg, with commas): make $python one that has them.
use_venv() {
    (
        # one at a time in a repository: two would write the same files. It is let go when this ( ) ends.
        flock -n 9 2>/dev/null || {
            say "waiting for another script that installs from $root"
            flock 9
        }
        make_venv
        # line 1: the fingerprint; every other line: extras that were installed under it
        stamp=$venv/.installed now=$(fingerprint)
        if [ "$(head -n 1 -- "$stamp" 2>/dev/null)" != "$now" ]; then
            rm -f -- "$stamp"
        elif grep -qxF -- "$1" "$stamp"; then
            exit 0
        fi
        (install "$1" 9>&-)
        [ -e "$stamp" ] || echo "$now" >"$stamp"
        echo "$1" >>"$stamp"
    ) 9<"$root"
}
