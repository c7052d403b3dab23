#!/usr/bin/env bash
# Runs ansible-test's sanity tests on a copy of this checkout: sanity.sh VENV [ARGUMENT...]
# ansible-test looks only below a directory named ansible_collections, and only at files that git knows. The copy holds
# what git tracks or would track of the collection; our own tests and tools never run through Ansible, and ruff and mypy
# read them by rules of their own (ansible-test refuses `_` as a name and python3 in a first line).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
shift
copy=$PWD/build/ansible_collections/flyd/lite
cache=$HOME/.ansible/test/cache

# ansible-test would fetch its pip from a site of its own; what it finds in its cache it does not fetch.
provide_pip() {
    local version=24.2 name
    name=$cache/get_pip_${version//./_}.py
    [[ -e $name ]] && return
    mkdir -p "$cache"
    "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$cache" "pip==$version"
    cat >"$name" <<END
import sys

wheel = "$cache/pip-$version-py3-none-any.whl"
sys.path.insert(0, wheel)
from pip._internal.cli.main import main

sys.exit(main(["install", "--no-index", "--no-deps", wheel]))
END
}

copy_tree() {
    rm -rf "$copy"
    mkdir -p "$copy"
    {
        git ls-files -z --cached --others --exclude-standard -- ':!tests' ':!tools' ':!bench'
        git ls-files -z --cached --others --exclude-standard -- tests/config.yml tests/sanity tests/integration
    } |
        while IFS= read -r -d '' path; do
            if [[ -e $path ]]; then printf '%s\0' "$path"; fi # tracked, but removed and not yet committed
        done |
        tar --create --null --files-from=- | tar --extract --directory="$copy"
    git -C "$copy" init --quiet
    git -C "$copy" add --all
}

mkdir -p build
exec 9>build/sanity.lock
flock 9
provide_pip
copy_tree
cd "$copy"
version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# The version is named because the shims of version managers on PATH look like interpreters and are none.
PATH=$venv/bin:$PATH LC_ALL=C.UTF-8 ansible-test sanity --local --python "$version" --color no "$@" 9>&-
