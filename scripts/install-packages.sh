#!/usr/bin/env bash
# Installs the Debian packages that building and running mWarp needs and that are missing; says which. Without root it
# names the command instead. With nothing missing it is silent and takes a few milliseconds.
set -euo pipefail

# package  what it is for
needed='
make              this build
gcc               native parts
libc6-dev         static linking of the guest helper
qemu-system-x86   the VMs
mmdebstrap        the guest image
debian-archive-keyring  signatures of the guest image packages
busybox-static    initramfs of the guests, root file system of test containers
cpio              initramfs of the guests
e2fsprogs         file system of the guest image
xz-utils          kernel modules of the guests
iproute2          bridge and taps of the lab
util-linux        nsenter
skopeo            images: reads and checks them
umoci             images: unpacks them
'

command -v dpkg-query >/dev/null || { echo "mwarp: this is not a Debian system; install by hand:$needed" >&2; exit 1; }
names=$(awk 'NF {print $1}' <<<"$needed")
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | awk '$1 == "ii" {print $2}')
missing=$(comm -23 <(sort -u <<<"$names") <(sort -u <<<"$installed") | tr '\n' ' ')
missing=${missing% }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "mwarp: these Debian packages are missing: $missing" >&2
  echo "mwarp: install them as root: apt-get install --no-install-recommends $missing" >&2
  exit 1
fi
echo "mwarp: installing Debian packages: $missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
  DEBIAN_FRONTEND=noninteractive "$@" </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; echo "mwarp: failed: $*" >&2; exit 1; }
}
run apt-get -q update
# shellcheck disable=SC2086 # a list of words
run apt-get -q install -y --no-install-recommends $missing
