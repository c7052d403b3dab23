#!/usr/bin/env bash
# Runs the tests of the cache in front of S3: cache.sh VENV. As root it installs nginx when it is missing.
set -euo pipefail
if ! PATH=$PATH:/usr/sbin:/sbin command -v nginx >/dev/null; then
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "Install nginx first" >&2
        exit 1
    fi
    apt-get update -qq
    # Its service is not wanted: the tests start their own.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends nginx-light >/dev/null
fi
FLYD_NGINX=required exec "$1/bin/python" -m pytest tests/s3/servers/test_cache.py
