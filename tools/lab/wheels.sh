#!/usr/bin/env bash
# Wheels of what the modules need, for hosts without network access: wheels.sh VENV DIRECTORY
# They are those that the role prepare lists for the Python of the lab's machines, and are kept for the next run while the list is the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1/bin/python
directory=$2
case ${FLYD_LAB_SUITE:-bookworm} in
bullseye) version=3.9 ;;
trixie) version=3.13 ;;
*) version=3.11 ;;
esac
list=roles/prepare/files/requirements/python$version.txt

mkdir -p "$(dirname "$directory")"
exec 8>"$directory.lock"
flock 8
cmp --quiet "$list" "$directory/requirements.txt" && exit
rm -rf "$directory"
"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: --python-version "$version" \
    --dest "$directory" --requirement "$list"
cp "$list" "$directory/requirements.txt"
