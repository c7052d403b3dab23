# What the host has: the names of its disks, arrays, volumes and mounts. Devices of guests are no part of it.
columns() { tr -s " " | sed "s/ $//"; } # whose width depends on what there is
for kind in uuid label partuuid partlabel id; do
    echo "by-$kind:"
    find "/dev/disk/by-$kind" -type l -printf "%f -> %l\n" 2>/dev/null | sort
done
# An array that has not been written since it was assembled says so.
echo "arrays:" && sed -n "/^md/ { s/ (auto-read-only)//; p }" /proc/mdstat
echo "devices:" && { dmsetup info -c --noheadings -o name,uuid | grep -v :FLYD- | sort; }
echo "volumes:" && lvs --noheadings -o vg_name,lv_name,lv_active,devices 2>&1 | columns
echo "physical volumes:" && pvs --noheadings -o pv_name,vg_name 2>&1 | columns | sort
echo "mounts:" && findmnt --real --noheadings --raw --output SOURCE,TARGET,UUID
echo "swap:" && swapon --show --noheadings
echo "bcache:" && ls /sys/block | grep bcache
echo "root:" && findfs "UUID=$(findmnt --noheadings --output UUID /)" && findfs LABEL=hostroot
true
