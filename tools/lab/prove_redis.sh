#!/usr/bin/env bash
# Starts the redis-server that lies on a device, pings it, and leaves nothing behind: prove_redis.sh DEVICE
# The mount and the server live in namespaces of this script and end with it, however it ends.
set -euo pipefail

if [[ ${2:-} != inside ]]; then
    exec unshare --mount --pid --fork --kill-child --propagation private -- /bin/bash "$0" "$1" inside
fi

root=/mnt
# exec: called in a subshell each time, so that $! is the server itself and not a shell around it.
in_image() { exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot --userspec=65534:65534 "$root" "$@"; }

mount -o nodev,nosuid "$1" "$root"
in_image redis-server --port 0 --unixsocket /tmp/proof.sock --dir /tmp --save '' --appendonly no >/dev/null &
server=$!
answer=
for _ in {1..100}; do
    answer=$(in_image redis-cli -s /tmp/proof.sock PING 2>/dev/null) && break
    sleep 0.2
done
kill "$server"
wait "$server" || true
umount "$root"
echo "${answer:-no answer}"
[[ $answer == PONG ]]
