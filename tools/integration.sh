#!/usr/bin/env bash
# Runs ansible-test's integration tests against a prepared VM of the lab: integration.sh VENV [TARGET...]
# FLYD_KEEP leaves the VM running.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/ansible_test_tree.sh
venv=$(cd "$1" && pwd)
shift
prefix=integration
vm=${prefix}1
copy=$PWD/build/integration/ansible_collections/flyd/lite
inventory=$PWD/build/integration.yml

lab() { "$venv/bin/python" "$root/tests/vm/lab.py" "$@"; }

stop() { if [[ -z ${FLYD_KEEP:-} ]]; then lab down "$vm"; fi; }

root=$PWD
mkdir -p build
exec 9>build/integration.lock
flock 9
provide_pip "$venv"
trap stop EXIT
tools/lab/prepared_vm.sh "$venv" "$prefix" 9>&- >/dev/null
copy_tree "$copy"
lab inventory --output "$inventory" >/dev/null

# Where ansible-test looks for its key, and for variables. Both end with the copy.
variable() { sed -n "/^    $vm:/,/^    [a-z]/s/^      $1: \"\\?\\([^\"]*\\)\"\\?\$/\\1/p" "$inventory"; }
key=$(variable ansible_ssh_private_key_file)
(umask 077 &&
    mkdir -p "$copy/tests/output/.tmp" &&
    cp "$key" "$copy/tests/output/.tmp/id_rsa" && cp "$key.pub" "$copy/tests/output/.tmp/id_rsa.pub" &&
    "$venv/bin/python" tests/tools/small_images.py build/small-images >"$copy/tests/integration/integration_config.yml" 9>&-)

# One of an emulated machine's connections takes a second: pipelining saves three of four.
cd "$copy"
python=$(python_version "$venv")
PATH=$venv/bin:$PATH LC_ALL=C.UTF-8 ansible-test integration --color no --allow-destructive \
    --controller "origin:python=$python" --target "ssh:root@127.0.0.1:$(variable ansible_port),python=3.11" "$@" 9>&-
