/**
 * A directory that both VMs of a lab have from the same storage: an NFS server in the kernel of one of them, told by hand what its
 * daemons would tell it (Documentation/filesystems/nfs/rpc-cache.rst), and the directory mounted in either.
 */
import type { TestLab } from "./lab.js";

/** Flags of an export (include/uapi/linux/nfsd/export.h): any port, no check of subtrees, has an id of its own. */
const EXPORT_FLAGS = 0x2402;
const SERVED = "/srv/share";

/** Starts the server in a VM. */
export async function serveNfs(lab: TestLab, vm: string): Promise<void> {
  const { vms } = await lab.daemon.vms();
  const clients = ["127.0.0.1", ...vms.map(({ address }) => address)].join(" ");
  const script = `
modprobe nfsd; mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p ${SERVED} /var/lib/nfs/v4recovery; mount -t tmpfs share ${SERVED}; chmod 1777 ${SERVED}
until=$(( $(date +%s) + 1000000 ))
for client in ${clients}; do echo "nfsd $client $until lab" >/proc/net/rpc/auth.unix.ip/channel; done
echo "lab ${SERVED} $until ${EXPORT_FLAGS} 65534 65534 0" >/proc/net/rpc/nfsd.export/channel
echo "lab 1 \\\\x00000000 $until ${SERVED}" >/proc/net/rpc/nfsd.fh/channel
cd /proc/fs/nfsd
# Version 3 wants a port mapper. Nobody has anything to reclaim: no need to wait.
echo -3 >versions; echo 10 >nfsv4gracetime; echo "tcp 2049" >portlist; echo 2 >threads; echo Y >v4_end_grace`;
  await lab.guest(vm, "sh", "-ec", script);
}

/** Mounts it in a VM. */
export async function mountNfs(lab: TestLab, vm: string, server: string, directory: string): Promise<void> {
  const { vms } = await lab.daemon.vms();
  const addressOf = (name: string): string => vms.find((known) => known.name === name)!.address!;
  const options = `vers=4.2,addr=${addressOf(server)},clientaddr=${addressOf(vm)},sec=sys`;
  // No mount.nfs: the kernel needs none that is told the addresses.
  const script = `modprobe nfsv4; mkdir -p ${directory}; mount -i -t nfs4 -o ${options} ${addressOf(server)}:/ ${directory}`;
  await lab.guest(vm, "sh", "-ec", script);
}
