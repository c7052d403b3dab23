#!/usr/bin/env bash
# As far as an execution environment goes without a registry of containers: ansible-builder makes the context, and the collection in it is
# installed from there. ee.sh VENV
set -euo pipefail
venv=$1
ee=$PWD/build/ee
make --no-print-directory build FLYD_VENV="$venv"
mkdir -p "$ee"
[[ -x $ee/venv/bin/ansible-builder ]] || { "$venv/bin/python" -m venv "$ee/venv" && "$ee/venv/bin/pip" install --quiet ansible-builder==3.2.0; }
"$ee/venv/bin/ansible-builder" create --file extensions/ee/execution-environment.yml --context "$ee/context" --output-filename Containerfile
# In the container the context is /build.
sed "s,/build/,$ee/context/_build/," "$ee/context/_build/requirements.yml" >"$ee/requirements.yml"
"$venv/bin/ansible-galaxy" collection install --requirements-file "$ee/requirements.yml" --collections-path "$ee/collections" --force
test -f "$ee/collections/ansible_collections/flyd/lite/playbooks/rollout.yml"
grep -q 'exclude-collections.txt' "$ee/context/Containerfile"
echo "The context is $ee/context"
