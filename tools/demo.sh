#!/usr/bin/env bash
# From an archive in S3 to a redis-server that answers from a snapshot of it: demo.sh VENV
#
# Without FLYD_INVENTORY everything is of the lab: a VM, an S3 server with the redis image, wheels for a host with no way
# out; it is stopped again at the end, unless FLYD_DEMO_KEEP is set. With FLYD_INVENTORY the hosts are that inventory's;
# S3 and its credentials are then the environment's (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY …), and
# FLYD_WHEELS may name a directory of wheels.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
key=${FLYD_KEY:-images/redis_latest.tar}
build=$PWD/build/demo
log=$build/activate.log
mkdir -p "$build"
export PATH=$venv/bin:$PATH ANSIBLE_CONFIG=$PWD/playbooks/ansible.cfg

say() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

lab() { "$venv/bin/python" tests/vm/lab.py "$@"; }

stop_lab() {
    if [[ -n ${FLYD_DEMO_KEEP:-} ]]; then
        echo "The lab is left running: $venv/bin/python tests/vm/lab.py down; $venv/bin/python tests/vm/lab.py s3 down"
    else
        lab down
        lab s3 down
    fi
}

# Wheels for the VM's Python, which is Debian 12's; kept for the next run while the requirements are the same.
download_wheels() {
    [[ -e $1/requirements.txt ]] && cmp --quiet requirements.txt "$1/requirements.txt" && return
    rm -rf "$1"
    "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --only-binary :all: --python-version 3.11 \
        --dest "$1" --requirement requirements.txt
    cp requirements.txt "$1/"
}

start_lab() {
    say "A VM"
    trap stop_lab EXIT
    lab build
    lab up 1
    lab reset
    lab inventory --output "$build/inventory.ini"
    inventory=$build/inventory.ini

    say "An S3 server with the image"
    lab s3 up
    set -a
    # shellcheck source=/dev/null
    source <(lab s3 env)
    set +a
    lab s3 put "$(lab image redis)" "$key"
    export AWS_ENDPOINT_URL=$FLYD_S3_ENDPOINT_FROM_VM

    say "Wheels for a host with no way out"
    wheels=$PWD/build/wheels
    download_wheels "$wheels"
}

if [[ -n ${FLYD_INVENTORY:-} ]]; then
    inventory=$(realpath "$FLYD_INVENTORY")
    wheels=${FLYD_WHEELS:-}
else
    start_lab
fi

say "ansible-playbook prepare.yml"
ansible-playbook --inventory "$inventory" playbooks/prepare.yml ${wheels:+--extra-vars "prepare_wheels=$wheels"}

say "ansible-playbook activate.yml -e key=$key"
ansible-playbook --inventory "$inventory" playbooks/activate.yml tools/prove_redis.yml --extra-vars "key=$key" | tee "$log"

say "Done"
grep --only-matching 'Image activated at device /dev/mapper/[^" ]*' "$log"
grep --only-matching --word-regexp PONG "$log"
