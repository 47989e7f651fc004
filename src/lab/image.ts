/**
 * The guest image: Debian 13 by mmdebstrap, as a read-only ext4 file with its kernel beside it. Cached by a hash of the
 * recipe; built in a directory of its own and renamed when whole.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { isMwarpError, MwarpError } from "../errors.js";
import { withLock } from "../lock.js";
import { cacheDir } from "../paths.js";
import {
  type ContainerRootfs,
  containerContents,
  exportRootfs,
  UNPACKED,
  unpackedPackages,
} from "./container-rootfs.js";
import { lastLines, run } from "./exec.js";
import {
  bootModules,
  guestPaths,
  inittab,
  lateModules,
  mwarpInit,
  networkModules,
  runAgent,
} from "./guest-files.js";
import type { LabCallOptions } from "./progress.js";

const MIB = 1024 * 1024;
const BUILD_TIMEOUT_MS = 15 * 60_000;

/** The release of Debian that the guests run. */
export const guestSuite = "trixie";

/** All that decides what is in the image. A change makes a new one; `version` is for changes of the code below. */
const recipe = {
  version: 4,
  suite: guestSuite,
  packages: [
    "linux-image-cloud-amd64",
    "criu",
    "runc",
    "crun",
    // crun loads it when it is to use CRIU.
    "libcriu2",
    "nodejs",
    "iproute2",
    "nftables",
    "procps",
    "kmod",
    "busybox-static",
    "redis-server",
    // Libraries of PostgreSQL.
    "libgssapi-krb5-2",
    "libldap2",
    "libpq5",
    "libxml2",
  ],
  unpacked: unpackedPackages,
  exclude: [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/lib/udev/hwdb.d/*",
  ],
  modules: [...bootModules, ...networkModules, ...lateModules],
  containers: containerContents,
} as const;

export interface GuestImage {
  readonly hash: string;
  readonly directory: string;
  /** ext4, read-only for any number of VMs. */
  readonly disk: string;
  readonly kernel: string;
  /** Static busybox and uncompressed modules for the initramfs. */
  readonly busybox: string;
  readonly moduleDirectory: string;
  /** Name -> directory, for `mwarp run --rootfs`. */
  readonly rootfs: Readonly<Record<string, string>>;
}

const rootfsNames = Object.keys(containerContents) as ContainerRootfs[];

const recipeHash = (): string =>
  createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);

function imageAt(directory: string, hash: string): GuestImage {
  return {
    hash,
    directory,
    disk: join(directory, "root.ext4"),
    kernel: join(directory, "vmlinuz"),
    busybox: join(directory, "busybox"),
    moduleDirectory: join(directory, "modules"),
    rootfs: Object.fromEntries(rootfsNames.map((name) => [name, join(directory, "rootfs", name)])),
  };
}

/** The image of the current recipe when it is in the cache. */
export function cachedImage(): GuestImage | null {
  const hash = recipeHash();
  const directory = join(cacheDir(), `guest-${hash}`);
  return existsSync(directory) ? imageAt(directory, hash) : null;
}

/**
 * The image of the current recipe, built when it is not in the cache.
 * @throws MWARP_E_LAB with mmdebstrap's last lines; MWARP_E_CANCELLED. Nothing but a log stays of a failed build.
 */
export async function ensureImage(options: LabCallOptions = {}): Promise<GuestImage> {
  const ready = cachedImage();
  if (ready !== null) return ready;
  const cache = cacheDir();
  mkdirSync(cache, { recursive: true });
  const say = (message: string) => options.onProgress?.({ step: "image", message });
  const lock = {
    signal: options.signal,
    waitMs: BUILD_TIMEOUT_MS,
    busy: "another process builds the guest image",
    onWait: () => say("waiting: another process builds the guest image"),
  };
  return withLock("image", cache, lock, async () => {
    const built = cachedImage();
    if (built !== null) return built;
    // Whoever holds the lock is the only builder: other work directories belong to builders that were killed.
    removeAll(cache, (name) => name.startsWith("build-"));
    const hash = recipeHash();
    const work = join(cache, `build-${hash}`);
    mkdirSync(work);
    try {
      await build(work, say, options.signal);
      renameSync(work, join(cache, `guest-${hash}`));
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    removeAll(cache, (name) => name.startsWith("guest-") && name !== `guest-${hash}`);
    return imageAt(join(cache, `guest-${hash}`), hash);
  });
}

function removeAll(directory: string, isOld: (name: string) => boolean): void {
  for (const name of readdirSync(directory).filter(isOld))
    rmSync(join(directory, name), { recursive: true, force: true });
}

async function build(
  work: string,
  say: (message: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const root = join(work, "root");
  say(`building the guest image (Debian ${recipe.suite}), about a minute; kept for later`);
  await debootstrap(root, join(cacheDir(), "guest-image.log"), signal);
  say("installing the guest's start-up files");
  await prepareModules(root, join(work, "modules"), signal);
  writeGuestFiles(root);
  // Started as Debian ships it: a kernel unpacked for QEMU's PVH entry boots a second faster under TCG, but without
  // KASLR and five-level paging, which guests have.
  copyFileSync(join(root, "boot", onlyEntry(join(root, "boot"), "vmlinuz-")), join(work, "vmlinuz"));
  copyFileSync(join(root, "usr/bin/busybox"), join(work, "busybox"));
  const unpacked = join(root, UNPACKED);
  for (const file of readdirSync(unpacked))
    await run(["dpkg-deb", "-x", join(unpacked, file), unpacked], { signal });
  for (const name of rootfsNames) await exportRootfs(root, join(work, "rootfs", name), name, signal);
  rmSync(unpacked, { recursive: true });
  say("writing the image file");
  rmSync(join(root, "boot"), { recursive: true });
  const kib = Number((await run(["du", "-sk", root], { signal })).split(/\s/)[0]);
  // Metadata and alignment need room; the file is sparse and read-only.
  const size = Math.ceil((kib * 1024 * 1.15) / MIB) + 48;
  const disk = join(work, "root.ext4");
  const features = ["-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-L", "mwarp-guest"];
  await run(["mke2fs", "-q", "-t", "ext4", ...features, "-d", root, disk, `${size}M`], {
    signal,
    timeoutMs: 300_000,
  });
  rmSync(root, { recursive: true });
}

/** Run by mmdebstrap on the host, with the guest's root as its argument, while its package lists are still there. */
const downloadUnpacked = [
  `mkdir "$1${UNPACKED}"`,
  `cd "$1${UNPACKED}"`,
  `APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -o APT::Sandbox::User=root download ${recipe.unpacked.join(" ")}`,
].join(" && ");

async function debootstrap(root: string, log: string, signal: AbortSignal | undefined): Promise<void> {
  rmSync(log, { force: true });
  const mirror = process.env.MWARP_DEBIAN_MIRROR;
  // Mounts and processes of the build live in namespaces of their own and die with unshare, which ignores SIGTERM.
  const isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"];
  const argv = [
    ...isolated,
    "mmdebstrap",
    "--mode=root",
    "--variant=minbase",
    "--format=directory",
    ...recipe.exclude.map((path) => `--dpkgopt=path-exclude=${path}`),
    `--include=${recipe.packages.join(",")}`,
    `--customize-hook=${downloadUnpacked}`,
    recipe.suite,
    root,
    ...(mirror === undefined ? [] : [mirror]),
  ];
  try {
    // INITRD=No: the kernel package would spend seconds on an initramfs that nobody boots.
    await run(argv, {
      signal,
      timeoutMs: BUILD_TIMEOUT_MS,
      logFile: log,
      endWith: "SIGKILL",
      // Killed in the middle, mmdebstrap leaves its scratch files: they go with the work directory.
      env: { INITRD: "No", TMPDIR: dirname(root) },
    });
  } catch (error) {
    if (isMwarpError(error, "MWARP_E_CANCELLED"))
      throw new MwarpError("MWARP_E_CANCELLED", "cancelled while the guest image was built");
    if (!isMwarpError(error, "MWARP_E_LAB")) throw error;
    throw new MwarpError("MWARP_E_LAB", "mmdebstrap could not build the guest image", {
      hint: `The log is ${log}. The image needs a Debian mirror; MWARP_DEBIAN_MIRROR names another one.`,
      details: lastLines(readFileSync(log, "utf8"), 12),
      cause: error,
    });
  }
}

function onlyEntry(directory: string, prefix: string): string {
  const found = readdirSync(directory).filter((name) => name.startsWith(prefix));
  if (found.length !== 1)
    throw new MwarpError("MWARP_E_LAB", `${found.length} kernels in the guest image, not one`);
  return found[0];
}

/** Unpacks the modules that every boot loads: the guest would spend its time on it at each start. */
async function prepareModules(root: string, target: string, signal: AbortSignal | undefined): Promise<void> {
  const version = onlyEntry(join(root, "usr/lib/modules"), "");
  const tree = join(root, "usr/lib/modules", version);
  const dependencies = readFileSync(join(tree, "modules.dep"), "utf8");
  const wanted = new Set<string>();
  for (const line of dependencies.split("\n")) {
    const [module, others = ""] = line.split(":");
    const name = /([^/]+)\.ko\.xz$/.exec(module)?.[1]?.replaceAll("-", "_");
    if (name === undefined || !(recipe.modules as readonly string[]).includes(name)) continue;
    for (const path of [module, ...others.trim().split(" ")]) if (path !== "") wanted.add(join(tree, path));
  }
  await run(["xz", "-d", ...wanted], { signal });
  await run(["chroot", root, "depmod", "-a", version], { signal });
  mkdirSync(target);
  for (const name of bootModules) {
    const path = [...wanted].find((file) => file.endsWith(`/${name}.ko.xz`));
    if (path === undefined) throw new MwarpError("MWARP_E_LAB", `the guest kernel has no module ${name}`);
    copyFileSync(path.slice(0, -".xz".length), join(target, `${name}.ko`));
  }
}

function writeGuestFiles(root: string): void {
  mkdirSync(join(root, "usr/lib/mwarp"));
  mkdirSync(join(root, "usr/local/lib/mwarp"), { recursive: true });
  // busybox acts by the name it is called by.
  symlinkSync("/usr/bin/busybox", join(root, "usr/lib/mwarp/init"));
}

/** Files that `lab up` lays over the image: start-up scripts may change without a new image. */
export const overlayFiles = (): readonly { path: string; contents: string; mode: number }[] => [
  { path: guestPaths.init, contents: mwarpInit, mode: 0o755 },
  { path: guestPaths.inittab, contents: inittab, mode: 0o644 },
  { path: guestPaths.runAgent, contents: runAgent, mode: 0o755 },
];
