#!/usr/bin/env bash
# Builds the site of the documentation in build/docs/site: docs.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(cd "$1" && pwd)
source=$PWD/build/docs/source site=$PWD/build/docs/site
export PATH=$venv/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$PWD/build/collections

rm -rf "$source" "$site"
mkdir -p "$source"
(umask 022 && mkdir -p "$source/collections/flyd/lite") # antsibull-docs wants it writable by its owner alone
cp docs/site/* ./*.md "$source"
cp -R docs "$source/docs"
rm -r "$source/docs/site"
antsibull-docs collection --use-current --squash-hierarchy --no-indexes --fail-on-error \
    --dest-dir "$source/collections/flyd/lite" flyd.lite
# The theme shows the contents of a page beside it, and refuses a list of them inside.
sed -i '/^\.\. contents::/,/^$/d' "$source"/collections/flyd/lite/*.rst
# There is no public repository yet; the address that Galaxy wants in galaxy.yml leads nowhere.
sed -i '/^\.\. ansible-links::/d;/^  - title: "Repository (Sources)"/,/^$/d' "$source/collections/flyd/lite/index.rst"
sphinx-build -q -W --keep-going --jobs auto --builder html "$source" "$site"
echo "$site/index.html"
