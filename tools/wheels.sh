#!/usr/bin/env bash
# Wheels of what the modules need, for hosts with no way out: wheels.sh VENV DIRECTORY
# They are for the Python of Debian 12, and are kept for the next run while the requirements are the same.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1/bin/python
directory=$2

mkdir -p "$(dirname "$directory")"
exec 8>"$directory.lock"
flock 8
wanted=$(cat requirements.txt requirements-optional.txt)
[[ -e $directory/requirements.txt && $wanted == "$(<"$directory/requirements.txt")" ]] && exit
rm -rf "$directory"
"$python" -m pip download --quiet --disable-pip-version-check --only-binary :all: --python-version 3.11 \
    --dest "$directory" --requirement requirements.txt --requirement requirements-optional.txt pip
echo "$wanted" >"$directory/requirements.txt"
