#!/bin/busybox sh
# The first process of the virtual machine: devices, network, then the checks.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
# Kernel messages stay out of the serial line, where results are read; a failure prints the kernel's log itself.
echo 1 >/proc/sys/kernel/printk
while read -r module; do insmod "/modules/$module"; done </modules/order
ip link set lo up
ip link set eth0 up
# The addresses of QEMU's user networking; the host's loopback is 10.0.2.2.
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
dmesg -c >/dev/null
xargs /bin/verification </arguments
echo "the checks ended with status $?"
poweroff -f
