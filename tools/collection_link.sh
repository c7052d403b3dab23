#!/usr/bin/env bash
# Makes this checkout findable as flyd.lite: collection_link.sh COLLECTIONS_PATH
# Enough for ansible-playbook, ansible-doc, ansible-lint and mypy; ansible-test wants a copy (see sanity.sh).
set -euo pipefail
link=$1/ansible_collections/flyd/lite
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$(dirname "$link")"
ln -sfn "$root" "$link"
