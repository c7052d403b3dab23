#!/usr/bin/env bash
# Two rollouts on three VMs: a good version of redis, and one whose server ends at once, which every host takes back: demo_fleet.sh VENV
# Everything is of the lab, and is stopped again at the end, unless FLYD_KEEP is set.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$(cd "$1" && pwd)
key=images/redis_latest.tar prefix=fleet hosts=3
build=$PWD/build/demo-fleet
rm -rf "$build"
mkdir -p "$build"
export PATH=$venv/bin:$PATH ANSIBLE_CONFIG=$PWD/playbooks/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$PWD/build/collections
export ANSIBLE_STDOUT_CALLBACK=flyd.lite.fleet

say() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

lab() { "$venv/bin/python" tests/vm/lab.py "$@"; }

each() { for ((number = 1; number <= hosts; number++)); do "$@" "$prefix$number"; done; }

# shellcheck disable=SC2317 # called by the trap
stop_lab() {
    if [[ -n ${FLYD_KEEP:-} ]]; then return; fi
    each lab down
    if [[ -n $started_s3 ]]; then lab s3 down; fi
}

publish() {
    "$venv/bin/python" -m tests.e2e.redis_versions "$(lab image redis)" "$@" >"$build/version.tar"
    lab s3 put "$build/version.tar" "$key"
    rm "$build/version.tar"
}

rollout() {
    ansible-playbook --inventory "$build/inventory.yml" --limit "$prefix*" playbooks/rollout.yml --extra-vars "{
        rollout_key: $key, rollout_instances: web, rollout_directory: $build/rollouts, rollout_waves: [1, '100%'],
        rollout_switch: [systemctl, restart, guest.service], rollout_health_command: [/root/ping], rollout_min_healthy: 2,
        rollout_healthy_deadline: 60, activate_pool_data_size: 4G}"
}

versions() { each version_of | sort | uniq --count; }
# shellcheck disable=SC2016 # expanded in the VM
version_of() { lab ssh "$1" -- '/root/ping && debugfs -R "cat /version" "$(readlink -f /run/flyd/instances/web/device)" 2>/dev/null'; }

say "$hosts VMs, prepared, each with a unit that runs redis from the instance web"
started_s3=
trap stop_lab EXIT
lab build
lab s3 url >/dev/null 2>&1 || started_s3=yes
lab s3 up
tools/lab/prepared_vm.sh "$venv" "$prefix" "$hosts" >/dev/null
each tests/vm/guest/install.sh "$venv"
lab inventory --output "$build/inventory.yml" >/dev/null
set -a
# shellcheck source=/dev/null
source <(lab s3 env)
set +a

say "Version 1 is in S3: rollout.yml"
publish 1
AWS_ENDPOINT_URL=$FLYD_S3_ENDPOINT_FROM_VM rollout
versions

say "Version 2, whose server ends at once: rollout.yml"
publish 2 --broken
if AWS_ENDPOINT_URL=$FLYD_S3_ENDPOINT_FROM_VM rollout; then
    echo "the rollout of a broken version has succeeded" >&2
    exit 1
fi
versions

say "Done: the reports"
ls "$build"/rollouts/*/rollout.html
