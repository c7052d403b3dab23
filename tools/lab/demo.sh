#!/usr/bin/env bash
# From an archive in S3 to a redis-server that answers from a snapshot of it: demo.sh VENV
#
# Without FLYD_INVENTORY everything is of the lab: a VM, an S3 server with the redis image, wheels for a host with no way
# out; it is stopped again at the end, unless FLYD_KEEP is set. The VM is its own controller at first. With FLYD_INVENTORY the hosts are that inventory's;
# S3 and its credentials are then the environment's (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY …), and
# FLYD_WHEELS may name a directory of wheels.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$(cd "$1" && pwd)
key=${FLYD_KEY:-images/redis_latest.tar}
build=$PWD/build/demo
log=$build/activate.log
mkdir -p "$build"
export PATH=$venv/bin:$PATH ANSIBLE_CONFIG=$PWD/playbooks/ansible.cfg

say() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

lab() { "$venv/bin/python" tests/vm/lab.py "$@"; }

# Other machines of the lab, and an S3 server that was there before, are left running.
stop_lab() {
    if [[ -n ${FLYD_KEEP:-} ]]; then
        echo "The lab is left running; to stop it: $venv/bin/python tests/vm/lab.py down"
        return
    fi
    lab down "$vm"
    if [[ -n $started_s3 ]]; then lab s3 down; fi
}

start_lab() {
    say "A VM"
    vm=demo1 started_s3=
    lab build
    trap stop_lab EXIT
    lab up 1 --name demo
    lab reset "$vm"
    inventory=$build/inventory.yml
    lab inventory --output "$inventory" >/dev/null

    say "An S3 server with the image"
    lab s3 url >/dev/null 2>&1 || started_s3=yes
    lab s3 up
    set -a
    # shellcheck source=/dev/null
    source <(lab s3 env)
    set +a
    lab s3 put "$(lab image redis)" "$key"
    export AWS_ENDPOINT_URL=$FLYD_S3_ENDPOINT_FROM_VM

    say "Wheels for a host without network access"
    wheels=$PWD/build/wheels
    tools/lab/wheels.sh "$venv" "$wheels"
    play_options=(--inventory "$inventory" --limit "$vm" --extra-vars "prepare_wheels=$wheels")
}

if [[ -n ${FLYD_INVENTORY:-} ]]; then
    play_options=(--inventory "$FLYD_INVENTORY" ${FLYD_WHEELS:+--extra-vars "prepare_wheels=$(realpath "$FLYD_WHEELS")"})
else
    start_lab
fi

say "ansible-playbook prepare.yml"
ansible-playbook "${play_options[@]}" playbooks/prepare.yml

if [[ -z ${FLYD_INVENTORY:-} ]]; then
    say "On the host itself, without an inventory: ansible-playbook activate.yml -e key=$key"
    lab ssh "$vm" -- "$(tools/lab/local_controller.sh "$venv" "$vm") && ansible-playbook activate.yml -e key=$key"
fi

say "ansible-playbook activate.yml -e key=$key, from a controller"
ansible-playbook "${play_options[@]}" playbooks/activate.yml tools/lab/prove_redis.yml --extra-vars "key=$key" | tee "$log"

say "Done"
grep --only-matching "Image activated at device /dev/mapper/[[:alnum:]-]*" "$log"
grep --only-matching --word-regexp PONG "$log"
