#!/usr/bin/env bash
# Runs tests/real_images with the programs of Debian that they need: real_images.sh VENV. As root it installs what is missing.
set -euo pipefail
venv=$1
programs=(skopeo umoci buildah podman bsdtar mmdebstrap mksquashfs mkfs.erofs lz4 cpio zip genisoimage qemu-img zstd)
packages=(skopeo umoci buildah podman libarchive-tools mmdebstrap squashfs-tools erofs-utils lz4 cpio zip genisoimage qemu-utils zstd)
missing=()
for at in "${!programs[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${programs[$at]}" >/dev/null || missing+=("${packages[$at]}")
done
if ((${#missing[@]})); then
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "Install these packages first: ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
exec "$venv/bin/python" -m pytest tests/real_images
