# For scripts that run ansible-test, which source this: the two things that it wants and a checkout has not.
# shellcheck shell=bash

# ansible-test would fetch its pip from a site of its own; what it finds in its cache it does not fetch.
# provide_pip VENV
provide_pip() {
    local version cache=$HOME/.ansible/test/cache name
    version=$("$1/bin/python" -c "
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(SimpleNamespace(version='$(python_version "$1")'))['pip'])")
    name=$cache/get_pip_${version//./_}.py
    [[ -e $name ]] && return
    mkdir -p "$cache"
    "$1/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$cache" "pip==$version"
    cat >"$name.part" <<END
import sys

wheel = "$cache/pip-$version-py3-none-any.whl"
sys.path.insert(0, wheel)
from pip._internal.cli.main import main

sys.exit(main(["install", "--no-index", "--no-deps", wheel]))
END
    mv "$name.part" "$name"
}

# It looks only below a directory named ansible_collections, and only at files that git knows. The copy holds what git
# tracks or would track of the collection; our own tests and tools never run through Ansible, and ruff and mypy read them
# by rules of their own (ansible-test refuses `_` as a name and python3 in a first line).
# copy_tree DIRECTORY
copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"
    {
        git ls-files -z --cached --others --exclude-standard -- ':!tests' ':!tools' ':!bench' ':!extensions'
        git ls-files -z --cached --others --exclude-standard -- tests/config.yml tests/sanity tests/integration
    } |
        while IFS= read -r -d '' path; do
            if [[ -e $path ]]; then printf '%s\0' "$path"; fi # tracked, but removed and not yet committed
        done |
        tar --create --null --files-from=- | tar --extract --directory="$1"
    git -C "$1" init --quiet
    git -C "$1" add --all
}

# The version is always named: the shims of version managers on PATH look like interpreters and are none.
# python_version VENV
python_version() {
    "$1/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}
