#!/usr/bin/env bash
# Runs scenarios of molecule on a prepared VM of the lab: molecule.sh VENV [SCENARIO...]; all of them when none is named.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
shift
mkdir -p build
exec 9>build/molecule.lock
flock 9
# Molecule notes what it has made below ANSIBLE_HOME. A machine that a stopped run has left is made again.
export PATH=$venv/bin:$PATH ANSIBLE_HOME=$PWD/build/molecule LC_ALL=C.UTF-8 NO_COLOR=1
rm -rf "$ANSIBLE_HOME"
scenarios=(--all)
if (($#)); then
    scenarios=()
    for name in "$@"; do scenarios+=(--scenario-name "$name"); done
fi
report=$PWD/build/molecule.log
molecule test --no-command-borders "${scenarios[@]}" 2>&1 9>&- | tee "$report"
# A playbook that is not where the sequence says counts as a success with molecule.
if grep 'missing=[1-9]' "$report" >&2; then
    echo "a step of these scenarios has no playbook" >&2
    exit 1
fi
