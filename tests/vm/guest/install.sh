#!/usr/bin/env bash
# Installs the guest of the tests of instances in a VM of the lab: install.sh VENV VM
set -euo pipefail
cd "$(dirname "$0")"
tar --create --file - guest ping guest.service |
    "$1/bin/python" ../lab.py ssh "$2" -- "tar --extract --file - --directory /root && chmod 755 /root/guest /root/ping && \
        mv /root/guest.service /etc/systemd/system && systemctl daemon-reload && systemctl enable guest.service 2>&1 && sync"
