#!/usr/bin/env bash
# Has machines of the lab running that are pristine but for the role prepare: prepared_vm.sh VENV PREFIX [COUNT]
# The role takes minutes on an emulated machine. So it is run once, the machine is saved under a hash of all that the role
# works from, and every machine starts from there in seconds. Prints the name of the saved state.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$(cd "$1" && pwd)
prefix=$2 count=${3:-1}
wheels=$PWD/build/wheels
export PATH=$venv/bin:$PATH ANSIBLE_CONFIG=$PWD/playbooks/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$PWD/build/collections

lab() { "$venv/bin/python" tests/vm/lab.py "$@"; }

# Files of the role, the code that it packs for the host, and the names of the wheels, which have their versions.
fingerprint() {
    {
        find roles/prepare plugins/module_utils -type f -not -name "*.pyc" -print0 | sort --zero-terminated | xargs --null sha256sum
        sha256sum requirements.txt requirements-optional.txt playbooks/prepare.yml
        echo "${FLYD_LAB_SUITE:-bookworm}"
        (cd "$wheels" && ls)
    } | sha256sum | cut --characters=1-12
}

prepare_and_save() {
    local inventory=$PWD/build/prepared-$prefix.yml
    lab up 1 --name "$prefix"
    lab reset "${prefix}1"
    lab inventory --output "$inventory" >/dev/null
    ansible-playbook --inventory "$inventory" --limit "${prefix}1" \
        --extra-vars "prepare_wheels=$wheels" playbooks/prepare.yml
    # Compiled now, once, and not by the first module of every machine.
    lab ssh "${prefix}1" -- /opt/flyd/venv/bin/python -c "'import boto3, ulid, botocore.session; boto3.client(\"s3\", region_name=\"x\")'"
    lab save "${prefix}1" "$state"
    forget_older
}

# Half a gigabyte each; the newest are kept, for other checkouts of this code.
forget_older() {
    (
        cd "$(dirname "$(lab saved "$state")")"
        find . -maxdepth 1 -name "state-prepared-*.qcow2" -printf "%T@ %f\n" | sort --reverse --numeric-sort | tail --lines=+4 |
            cut --delimiter=" " --fields=2 | xargs --no-run-if-empty rm --
    )
}

mkdir -p build
exec 9>build/prepared.lock
flock 9
{
    tools/collection_link.sh build/collections
    tools/lab/wheels.sh "$venv" "$wheels"
    state=prepared-$(fingerprint)
    lab saved "$state" 2>/dev/null || prepare_and_save
} 9>&- >&2
exec 9>&-
for ((number = 1; number <= count; number++)); do lab down "$prefix$number"; done
lab up "$count" --name "$prefix" --from "$state" >&2
echo "$state"
