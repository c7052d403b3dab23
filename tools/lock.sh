#!/usr/bin/env bash
# Resolves requirements.txt and requirements-optional.txt to exact versions with hashes, one list for each Python of hosts: lock.sh VENV
# The lists are what the role prepare installs. The index is the one that pip is configured for, the hashes are those it publishes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1/bin/python
lists=roles/prepare/files/requirements
tool=uv==0.13.9
environment=$PWD/build/lock
pythons=(3.9 3.10 3.11 3.12 3.13)
# glibc and musl of both architectures: a list that differed between them could not be one list.
platforms=(x86_64-manylinux_2_28 aarch64-manylinux_2_28 x86_64-unknown-linux-musl aarch64-unknown-linux-musl)

if [[ ! -e $environment/made ]] || [[ $(<"$environment/made") != "$tool" ]]; then
    "$python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$tool"
    echo "$tool" >"$environment/made"
fi
index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
if [[ -n $index ]]; then export UV_DEFAULT_INDEX=$index; fi

# resolve PYTHON PLATFORM: prints the list
resolve() {
    echo pip | "$environment/bin/uv" pip compile --quiet --no-header --no-annotate --generate-hashes --only-binary :all: --upgrade \
        --no-python-downloads --python-version "$1" --python-platform "$2" requirements.txt requirements-optional.txt -
}

mkdir -p "$lists"
for version in "${pythons[@]}"; do
    part=$environment/python$version.txt
    {
        echo "# What the role prepare installs for Python $version: made by \`make lock\`, not by hand."
        resolve "$version" "${platforms[0]}"
    } >"$part"
    for platform in "${platforms[@]:1}"; do
        diff <(tail --lines=+2 "$part") <(resolve "$version" "$platform") >&2 ||
            { echo "Python $version: $platform resolves to other versions than ${platforms[0]}" >&2 && exit 1; }
    done
done
for version in "${pythons[@]}"; do mv "$environment/python$version.txt" "$lists/"; done
grep --no-filename --only-matching '^[a-z].*==[^ ]*' "$lists"/*.txt | sort --unique
