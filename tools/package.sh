#!/usr/bin/env bash
# Builds the collection, checks the tarball as Galaxy does, and installs it into an empty directory: package.sh VENV
# What is left in build/package: the tarball, and the installed collection below collections/.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
package=$PWD/build/package
importer=$PWD/build/importer
export PATH=$venv/bin:$PATH LC_ALL=C.UTF-8

say() { printf '== %s\n' "$*"; }

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

mkdir -p build
exec 9>build/package.lock
flock 9
rm -rf "$package"
mkdir -p "$package"

say "Build"
ansible-galaxy collection build --output-path "$package" >/dev/null
tarball=$(echo "$package"/flyd-lite-*.tar.gz)

say "Nothing is in $(basename "$tarball") that git does not know"
unknown=$(comm -23 \
    <(tar --list --gzip --file "$tarball" | grep --invert-match -e '/$' -e '^MANIFEST.json$' -e '^FILES.json$' | sort) \
    <(git ls-files --cached --others --exclude-standard | sort))
[[ -z $unknown ]] || fail "in the tarball, but not in git:" "$unknown"

say "galaxy-importer"
if ! cmp --quiet requirements-importer.txt "$importer/requirements.txt"; then
    rm -rf "$importer"
    "$venv/bin/python" -m venv "$importer"
    "$importer/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements-importer.txt
    cp requirements-importer.txt "$importer/requirements.txt"
fi
# Of its steps only ansible-test is left out (RUN_ANSIBLE_TEST): it wants a container engine, and `make sanity` runs that.
# ansible-lint and flake8 only warn there; `make lint` runs the one by its strictest profile, and ruff holds what the other does.
found=$package/importer.log
PATH=$importer/bin:$PATH GALAXY_IMPORTER_RUN_ANSIBLE_DOC=true GALAXY_IMPORTER_CHECK_REQUIRED_TAGS=true \
    GALAXY_IMPORTER_RUN_ANSIBLE_LINT=true GALAXY_IMPORTER_RUN_FLAKE8=false GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP="$package/tmp" \
    "$importer/bin/python" -m galaxy_importer.main "$tarball" >"$found" 2>&1 9>&- || fail "$(cat "$found")"
rm -f importer_result.json
grep --quiet 'Importer processing completed successfully' "$found" || fail "$(cat "$found")"
# A playbook that destroys has no hosts until they are named, so it fails the importer's syntax check, which is given no variables.
warnings=$(grep -E '^(WARNING|ERROR)' "$found" | grep --invert-match 'this playbook destroys: name its hosts' || true)
[[ -z $warnings ]] || fail "$warnings"

say "Install into an empty directory"
# What make names as the path is the checkout: it would count as installed already, and has no manifest.
export ANSIBLE_COLLECTIONS_PATH=$package/collections
ansible-galaxy collection install "$tarball" --offline --collections-path "$package/collections" >/dev/null
installed=$package/collections/ansible_collections/flyd/lite
(cd "$package" && ansible-galaxy collection verify --offline flyd.lite --collections-path "$package/collections") |
    grep --quiet 'Successfully verified' || fail "the installed files are not those of the manifest"

say "What an execution environment would install for it"
"$importer/bin/ansible-builder" introspect "$package/collections" >"$package/introspection.yml"
for needed in boto3 python-ulid dmsetup; do
    grep --quiet "$needed" "$package/introspection.yml" || fail "$needed is missing in $package/introspection.yml"
done

say "Documentation of what was installed"
cd "$package"
ansible-doc --type module --json flyd.lite.flyd_{pool,fetch,unpack,snapshot,info} >/dev/null
roles=$(ansible-doc --type role --list flyd.lite)
for role in prepare activate deactivate prune unprepare; do
    [[ $roles == *"flyd.lite.$role"* ]] || fail "ansible-doc knows nothing of the role $role"
done
say "Built, checked and installed: $installed"
