#!/usr/bin/env bash
# Everything that must hold: test.sh VENV
# An emulated machine keeps one processor busy, so the end-to-end tests run beside all else, and are printed at the end: pytest comes last, so
# the last line is a summary of its.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
log=$PWD/build/lab.log in_machine=$PWD/build/in-machine.log elsewhere=$PWD/build/elsewhere.log
# Two machines run at once: with a processor each, emulated ones slow each other least.
export FLYD_LAB_PROCESSORS=${FLYD_LAB_PROCESSORS:-1}
mkdir -p build

lab() { "$venv/bin/python" tests/vm/lab.py "$@"; }

# What fails here fails again, and says why, in the tests that need it.
get_lab_ready() {
    lab build
    tools/lab/prepared_vm.sh "$venv" ready
    lab down ready1
    lab image redis
    lab s3 up # for both halves: the one that ends first must not stop it
}

# tests/e2e/apart: each has a make target of its own.
test_in_machine() {
    local in_machine_failed=0
    get_lab_ready >"$log" 2>&1 || true
    "$venv/bin/python" -m pytest --durations 15 tests/e2e --ignore tests/e2e/apart || in_machine_failed=1
    "$venv/bin/python" -m pytest --durations 15 tests/scenarios tests/survival/test_samples.py || in_machine_failed=1
    exit $in_machine_failed
}

s3_was_up=$(lab s3 url 2>/dev/null || true)
set -m # a process group of its own, which can be ended as a whole
test_in_machine >"$in_machine" 2>&1 </dev/null &
machine=$!
set +m

end_all() {
    # Interrupted, pytest stops its machines; one that is left is found and replaced by the next run.
    kill -INT -- "-$machine" 2>/dev/null && wait "$machine" || true
    [[ -n $s3_was_up ]] || lab s3 down >/dev/null 2>&1 || true
}
trap end_all EXIT

echo "In a machine there are tests meanwhile; the logs are $log and $in_machine"
make --no-print-directory static FLYD_VENV="$venv"
echo "static checks done after $SECONDS s"
failed=0
"$venv/bin/python" -m pytest --durations 15 tests/unit tests/fleet/test_ansible.py tests/fleet/test_rollout.py tests/bench tests/s3 2>&1 |
    tee "$elsewhere" || failed=1
echo "these tests done after $SECONDS s; the others:"
in_machine_failed=0
wait "$machine" || in_machine_failed=1
cat "$in_machine"
# What failed is printed last.
((in_machine_failed)) || ((!failed)) || tail --lines=50 "$elsewhere"
((!failed && !in_machine_failed))
