#!/usr/bin/env bash
# Everything that must hold: test.sh VENV
# The lab is got ready beside the static checks and the unit tests. pytest comes last, so the last line is its summary.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
log=$PWD/build/lab.log
# Two machines run at once, beside the tests: with a processor each, emulated ones slow each other least.
export FLYD_LAB_PROCESSORS=${FLYD_LAB_PROCESSORS:-1}
mkdir -p build

# What fails here fails again, and says why, in the tests that need it.
get_lab_ready() {
    "$venv/bin/python" tests/vm/lab.py build
    tools/prepared_vm.sh "$venv" ready
    "$venv/bin/python" tests/vm/lab.py down ready1
    "$venv/bin/python" tests/vm/lab.py image redis
}

get_lab_ready >"$log" 2>&1 </dev/null &
lab=$!
# Started by this script, so it may end it; a machine that is left is found and replaced by the next run.
trap 'kill "$lab" 2>/dev/null || true' EXIT

echo "The lab is made ready meanwhile; its log is $log"
make --no-print-directory static FLYD_VENV="$venv"
echo "static checks done after $SECONDS s"
# These take long on an emulated machine: make test-predictions, make test-at-once, make test-package-index, make test-cut-off.
"$venv/bin/python" -m pytest --durations 15 tests/unit tests/bench tests/s3 tests/e2e tests/scenarios \
    tests/survival/test_samples.py \
    --ignore tests/e2e/test_6_check_mode.py --ignore tests/e2e/test_7_at_once.py \
    --ignore tests/e2e/test_8_package_index.py --ignore tests/e2e/test_9_cut_off.py
