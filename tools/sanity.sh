#!/usr/bin/env bash
# Runs ansible-test's sanity tests on a copy of this checkout: sanity.sh VENV [ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/ansible_test_tree.sh
venv=$(cd "$1" && pwd)
shift
copy=$PWD/build/ansible_collections/flyd/lite

mkdir -p build
exec 9>build/sanity.lock
flock 9
provide_pip "$venv"
copy_tree "$copy"
cd "$copy"
PATH=$venv/bin:$PATH LC_ALL=C.UTF-8 ansible-test sanity --local --python "$(python_version "$venv")" --color no "$@" 9>&-
