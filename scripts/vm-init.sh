#!/bin/sh
# Process 1 of the VM tests' guest (scripts/vm-image.sh): mounts, loopback, then
# each line "DIRECTORY PATTERN TIMEOUT [FLAG]..." of /tests, whose directory holds a
# Go test binary named go.test. The console is the result; its last line is
#
#   VM-RESULT pass|fail N        N test binaries failed
export PATH=/bin:/sbin HOME=/root
echo # the BIOS leaves its line open
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/netns /run/lock /dev/pts
ip link set lo up
modprobe nf_conntrack # its sysctls exist once it is loaded
# Here and not on first use: of two at a time, busybox's modprobe ends one before
# the module is there, and the kernel then refuses its user.
modprobe nfnetlink_queue
echo "VM-BOOT $(uname -r) up $(cut -d' ' -f1 /proc/uptime)s"

failed=0
while read -r dir pattern timeout flags; do
  cd "$dir" && ./go.test -test.v=test2json -test.parallel=4 -test.short -test.timeout="$timeout" -test.run="$pattern" $flags </dev/null || failed=$((failed + 1))
done </tests 2>&1
[ $failed = 0 ] && word=pass || word=fail
echo "VM-RESULT $word $failed"
poweroff -f
