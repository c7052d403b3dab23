#!/usr/bin/env bash
# ansible-core for Debian 12 as a directory that is put on Python's path, in the version of VENV: controller.sh VENV DIRECTORY
set -euo pipefail
venv=$1
packages=$2

version=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("ansible-core"))')
if [[ ! -e $packages/made ]] || [[ $(<"$packages/made") != "$version" ]]; then
    rm -rf "$packages"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --target "$packages" --python-version 3.11 \
        --only-binary :all: --no-compile "ansible-core==$version" >&2
    rm -rf "${packages:?}/bin" "$packages/ansible_test"
    echo "$version" >"$packages/made"
fi
