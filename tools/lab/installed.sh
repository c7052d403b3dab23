#!/usr/bin/env bash
# Runs the playbooks of the collection that tools/package.sh has installed, by name and from an empty directory, against a
# prepared VM of the lab: installed.sh VENV. FLYD_KEEP leaves the VM running.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
venv=$(cd "$1" && pwd)
package=$root/build/package
prefix=package
vm=${prefix}1
export PATH=$venv/bin:$PATH LC_ALL=C.UTF-8

lab() { "$venv/bin/python" "$root/tests/vm/lab.py" "$@"; }

stop() { if [[ -z ${FLYD_KEEP:-} ]]; then lab down "$vm"; fi; }

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

[[ -d $package/collections/ansible_collections/flyd/lite ]] || fail "first: make package"
trap stop EXIT
tools/lab/prepared_vm.sh "$venv" "$prefix" >/dev/null
lab inventory --output "$package/inventory.yml" >/dev/null
images=$package/images.json
(umask 077 && "$venv/bin/python" tests/tools/small_images.py build/small-images >"$images")
rm -rf "$package/empty"
mkdir "$package/empty"
cd "$package/empty"
export ANSIBLE_COLLECTIONS_PATH=$package/collections ANSIBLE_PIPELINING=true
unset ANSIBLE_CONFIG

# play NAME CHANGED [ARGUMENT...]: runs a playbook that must come to so many changes
play() {
    local name=$1 changed=$2 output
    shift 2
    printf '== ansible-playbook flyd.lite.%s: %s changes\n' "$name" "$changed"
    output=$(ansible-playbook --inventory "$package/inventory.yml" --limit "$vm" "flyd.lite.$name" --extra-vars "@$images" "$@" 2>&1) ||
        fail "$output"
    grep --quiet "^$vm .* changed=$changed .* failed=0 " <<<"$output" || fail "$output"
    grep --only-matching 'Image activated at device /dev/mapper/snap-[0-9A-Z]*' <<<"$output" || true
}

source=(--extra-vars '{"activate_pool_data_size": "256M", "key": "integration/first.tar", "activate_bucket": "{{ flyd_s3.bucket }}",
    "activate_endpoint_url": "{{ flyd_s3.endpoint_url }}", "activate_access_key": "{{ flyd_s3.access_key }}",
    "activate_secret_key": "{{ flyd_s3.secret_key }}"}')
play prepare 0 --extra-vars "prepare_wheels=$root/build/wheels"
play activate 4 "${source[@]}"
play activate 0 "${source[@]}"
play deactivate 1 --extra-vars "flyd_hosts=$vm deactivate_key=integration/first.tar"
play teardown 1 --extra-vars "flyd_hosts=$vm"
play teardown 0 --extra-vars "flyd_hosts=$vm"
