#!/usr/bin/env bash
# Makes a machine of the lab, which has no network access, its own controller: local_controller.sh VENV NAME
# ansible-core, in the version of VENV, and this checkout's collection lie below ~/.ansible there, and AWS_* of the environment in a file.
# Prints the shell commands that come before ansible-playbook.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$(cd "$1" && pwd)
vm=$2
packages=$PWD/build/controller

lab() { "$venv/bin/python" tests/vm/lab.py "$@"; }

tools/lab/controller.sh "$venv" "$packages"
tar --create --directory "$packages" . | lab ssh "$vm" -- "mkdir -p ~/.ansible/controller && tar --extract --warning=no-timestamp --directory ~/.ansible/controller"
tar --create --exclude __pycache__ galaxy.yml meta playbooks plugins roles requirements*.txt |
    lab ssh "$vm" -- "mkdir -p ~/.ansible/collections/ansible_collections/flyd/lite && tar --extract --warning=no-timestamp --directory ~/.ansible/collections/ansible_collections/flyd/lite"
lab ssh "$vm" -- "mkdir -p ~/.ansible/bin && cat >~/.ansible/bin/ansible-playbook && chmod 755 ~/.ansible/bin/ansible-playbook" <<'END'
#!/bin/sh
exec python3 -c '
import os, sys
sys.path.insert(0, os.path.expanduser("~/.ansible/controller"))
from ansible.cli.playbook import main
sys.argv[0] = "ansible-playbook"
main()' "$@"
END
env | grep '^AWS_' | lab ssh "$vm" -- "umask 077 && cat >~/.ansible/environment"
# shellcheck disable=SC2016 # for the shell of the machine
echo 'set -a && . ~/.ansible/environment && set +a && PATH=~/.ansible/bin:$PATH && cd ~/.ansible/collections/ansible_collections/flyd/lite/playbooks'
