#!/usr/bin/env bash
# Makes the development environment, or brings it up to date: venv.sh DIRECTORY REQUIREMENTS
# Wants a Python that ansible-core runs on (3.11 to 3.13) and can make virtual environments; as root on Debian it installs one.
set -euo pipefail
venv=$1 requirements=$2

usable() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    local python
    for python in "${FLYD_PYTHON:-python3.11}" python3 /usr/bin/python3 python3.12 python3.13; do
        if usable "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

if ! python=$(find_python); then
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "No Python 3.11 to 3.13 with venv here: install one (Debian 12: apt-get install python3-venv), or name it in FLYD_PYTHON" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv
    python=$(find_python)
fi

# One that is sound is kept: pip changes only what the requirements changed.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
