#!/bin/bash
# Run once in a machine of the lab: what a host may have on its own disk (/root/host.img, put on /dev/vdb later), and what guests may write
# that looks like it (/root/guests/*.img). udev and LVM of the machine see all of it meanwhile; nothing of it is left in use.
set -euo pipefail
mkdir -p /root/guests
cd /root/guests
over() { losetup --find --show "$@"; }
let_go() {
    udevadm settle
    vgchange -qq -an || true
    mdadm --stop --scan 2>/dev/null || true
    udevadm settle
    losetup --detach "$1"
}

# The host: a partition with a file system, one with a volume group, one with a member of a mirror that has lost its other half.
truncate -s 160M /root/host.img
sgdisk --new=1:0:+40M --change-name=1:hostpart --new=2:0:+48M --change-name=2:hostpv --new=3:0:+32M --change-name=3:hostmd /root/host.img
tune2fs -L hostroot /dev/vda
root=$(blkid -s UUID -o value /dev/vda)

# A volume group of the host's name, and one of another, each with a volume that is to be activated.
for name in hostvg guestvg; do
    truncate -s 32M "lvm-$name.img"
    loop=$(over "lvm-$name.img")
    pvcreate -qq -ff -y "$loop"
    vgcreate -qq "$name" "$loop"
    lvcreate -qq -an -Wn -Zn -L 8M -n data "$name"
    let_go "$loop"
    mv "lvm-$name.img" "kept-$name" # out of the way of the host's own of that name
done

disk=$(over --partscan /root/host.img)
udevadm settle
mkfs.ext4 -q -L hostdata "${disk}p1"
pvcreate -qq -ff -y "${disk}p2"
vgcreate -qq hostvg "${disk}p2"
lvcreate -qq -Wn -L 8M -n data hostvg
mkfs.ext4 -q /dev/hostvg/data
truncate -s 32M md-member.img
half=$(over md-member.img)
mdadm --create /dev/md9 --level=1 --metadata=1.2 --raid-devices=2 --assume-clean --bitmap=internal "${disk}p3" "$half" --run
mdadm /dev/md9 --fail "$half" --remove "$half"
vgchange -qq -an hostvg
mdadm --stop /dev/md9
losetup --detach "$half"
dd if="${disk}p2" of=lvm-copy.img bs=1M conv=sparse status=none # the host's own physical volume, to the byte
part=$(blkid -s PARTUUID -o value "${disk}p1")
data=$(blkid -s UUID -o value "${disk}p1")
let_go "$disk"
for name in hostvg guestvg; do mv "kept-$name" "lvm-$name.img"; done

truncate -s 32M md-own.img
loop=$(over md-own.img)
mdadm --create /dev/md8 --level=1 --metadata=1.2 --force --raid-devices=1 "$loop" --run
mdadm --stop /dev/md8
let_go "$loop"

truncate -s 32M ext4.img swap.img luks.img gpt.img
truncate -s 128M btrfs.img
mkfs.ext4 -q -U "$root" -L hostroot ext4.img
mkswap -U "$data" -L hostdata swap.img
mkfs.btrfs -q -L hostroot btrfs.img # it refuses a UUID that there is
sgdisk --new=1:0:+16M --partition-guid="1:$part" --change-name=1:hostpart gpt.img
echo guest | cryptsetup luksFormat -q --type luks1 --uuid "$data" --pbkdf-force-iterations 1000 luks.img -
modprobe bcache
truncate -s 32M bcache.img
loop=$(over bcache.img)
make-bcache -B "$loop" # and udev registers it
udevadm settle
echo 1 >/sys/block/bcache0/bcache/stop || true
let_go "$loop"
sed -i "s,^/dev/vda,UUID=$root," /etc/fstab
sync
