/** The few files of ours in a guest: the start of the system, from the kernel's first program to the resident agent. */

/** Loaded in the initramfs: without them there is no root file system. */
export const bootModules = ["virtio_blk", "overlay"] as const;

/** Loaded before the guest's network is set up. */
export const networkModules = ["virtio_net", "bridge"] as const;

/**
 * Loaded beside the starting agent, so that no migration waits for a module: devices of containers, and what CRIU asks
 * the kernel about sockets and network locks with.
 */
export const lateModules = [
  "veth",
  "tun",
  "unix_diag",
  "inet_diag",
  "tcp_diag",
  "udp_diag",
  "raw_diag",
  "netlink_diag",
  "af_packet_diag",
  "nf_tables",
  "nft_ct",
] as const;

/** Where the payload lies in the guest; the agent's own paths depend on it. */
export const guestPaths = {
  agent: "usr/local/lib/mwarp/agent.mjs",
  helper: "usr/local/bin/mwarp-guest",
  handover: "usr/local/bin/libmwarp-handover.so",
  action: "usr/local/bin/mwarp-action",
  init: "usr/sbin/mwarp-init",
  inittab: "etc/inittab",
  runAgent: "usr/sbin/mwarp-agent",
} as const;

/** Printed on the serial console once network and agent service are set up. */
export const READY_MARKER = "MWARP-READY";
/** Printed with a reason when the guest cannot be set up. */
export const FAILED_MARKER = "MWARP-FAILED";

/** First program of the kernel: read-only image below, tmpfs above, our payload on top. */
export const initramfsInit = `#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
for module in ${bootModules.join(" ")}; do $B insmod /modules/$module.ko; done
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  [ -b /dev/vda ] && break
  $B sleep 0.1
done
fail() { echo "${FAILED_MARKER} $1" >/dev/console; $B sleep 1; $B poweroff -f; }
$B mount -o ro -t ext4 /dev/vda /lower || fail "cannot mount the guest image"
$B mount -t tmpfs -o mode=755,size=90% upper /upper
$B mkdir /upper/files /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new || fail "cannot mount the root"
$B cp -a /payload/. /new/
for mount in dev proc sys; do $B mount --move /$mount /new/$mount; done
exec $B switch_root /new /${guestPaths.init}
`;

/** PID 1 of the guest until all is set up; then busybox init, which restarts the agent and reaps orphans. */
export const mwarpInit = `#!/usr/bin/busybox sh
# busybox, whose applets come before programs of the same name: a dynamic program takes several times as long to start,
# which shows under TCG. modprobe and ip are the real ones.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
fail() { echo "${FAILED_MARKER} $1" >/dev/console; }
read -r line </proc/cmdline
for word in $line; do
  case $word in
    mwarp.name=*) name=\${word#*=} ;;
    mwarp.address=*) address=\${word#*=} ;;
    mwarp.gateway=*) gateway=\${word#*=} ;;
    mwarp.mac=*) mac=\${word#*=} ;;
  esac
done

mkdir -p /dev/pts /dev/shm /dev/mqueue /dev/virtio-ports
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777,size=90% shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755,size=90% run /run
mount -t tmpfs -o mode=1777,size=90% tmp /tmp
mount -t cgroup2 -o nsdelegate cgroup /sys/fs/cgroup
for controller in cpuset cpu io memory hugetlb pids; do
  echo +$controller >/sys/fs/cgroup/cgroup.subtree_control
done 2>/dev/null
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mkdir -p /run/lock /run/log

echo "$name" >/proc/sys/kernel/hostname
echo "$name" >/etc/hostname
printf '127.0.0.1 localhost\\n%s %s\\n' "\${address%/*}" "$name" >/etc/hosts

/usr/sbin/modprobe -a -q ${networkModules.join(" ")}
# No router advertisements, and no duplicate address detection: a moved address must work at once.
for scope in all default; do
  echo 0 >/proc/sys/net/ipv6/conf/$scope/accept_dad
  echo 0 >/proc/sys/net/ipv6/conf/$scope/accept_ra
  echo 0 >/proc/sys/net/ipv6/conf/$scope/router_solicitations
done
echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
# The bridge keeps its own address whatever ports come and go.
/usr/bin/ip -batch - <<EOF || fail "cannot set up the network"
link set lo up
link add br0 address $mac type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set eth0 master br0 up
addr add $address dev br0
link set br0 up
route add default via $gateway
EOF

for port in /sys/class/virtio-ports/*; do
  read -r port_name <"$port/name" && ln -sf "../\${port##*/}" "/dev/virtio-ports/$port_name"
done
echo ${READY_MARKER} >/dev/console
# The agent's start comes first.
nice -n 19 /usr/sbin/modprobe -a -q ${lateModules.join(" ")} &
exec /usr/lib/mwarp/init
`;

/** busybox init: no gettys, one service. */
export const inittab = `::respawn:/${guestPaths.runAgent}
::ctrlaltdel:/usr/bin/busybox poweroff -f
`;

/** What it says goes to the console, which the host keeps. */
export const runAgent = `#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ulimit -n 65536
cd /
[ -e /${guestPaths.agent} ] || { echo "mwarp-agent: no agent in this guest" >/dev/console; sleep 3600; }
exec node /${guestPaths.agent} >/dev/console 2>&1 </dev/null
`;
