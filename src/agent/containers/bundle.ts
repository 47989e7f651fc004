/** The OCI bundle of a container: configuration and root file system. */
import { mkdir } from "node:fs/promises";
import { MwarpError } from "../../errors.js";
import type { ContainerSpec } from "../../protocol/container.js";
import { CRIU_ANNOTATIONS } from "../criu-conf.js";
import { exists, writeAtomic } from "../files.js";
import type { Helper } from "../helper.js";
import { cgroupsPath, containerPaths, rootfsPath } from "../paths.js";
import { volumeMounts } from "./volumes.js";

type Json = Record<string, unknown>;

const asObject = (value: unknown): Json =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};

/** The configuration runc gets: the host's, with this guest's paths in it. */
export function ociConfig(spec: ContainerSpec): Json {
  const paths = containerPaths(spec.name);
  const linux = asObject(spec.oci.linux);
  const namespaces = (Array.isArray(linux.namespaces) ? linux.namespaces : [])
    .map(asObject)
    .filter((namespace) => namespace.type !== "network");
  return {
    ...spec.oci,
    hostname: spec.hostname,
    root: { ...asObject(spec.oci.root), path: paths.merged },
    mounts: [...(Array.isArray(spec.oci.mounts) ? spec.oci.mounts : []), ...volumeMounts(spec)],
    annotations: { ...asObject(spec.oci.annotations), ...CRIU_ANNOTATIONS },
    linux: {
      ...linux,
      namespaces: [...namespaces, { type: "network", path: paths.netns }],
      cgroupsPath: cgroupsPath(spec.name),
    },
  };
}

/** Directories and configuration. `MWARP_E_RUNTIME` when the read-only layer is not in this VM. */
export async function createBundle(spec: ContainerSpec): Promise<void> {
  const paths = containerPaths(spec.name);
  if (!(await exists(rootfsPath(spec.rootfs)))) {
    throw new MwarpError("MWARP_E_RUNTIME", `the root file system ${spec.rootfs} is not in this VM`);
  }
  for (const dir of [paths.merged, paths.upper, paths.work]) await mkdir(dir, { recursive: true });
  await writeAtomic(paths.config, JSON.stringify(ociConfig(spec)));
}

/** Mounts the container's root: only once its upper directory has its final contents. */
export async function mountRoot(spec: ContainerSpec, helper: Helper): Promise<void> {
  const paths = containerPaths(spec.name);
  const layers = `lowerdir=${rootfsPath(spec.rootfs)},upperdir=${paths.upper},workdir=${paths.work}`;
  // CRIU finds the files that inotify watches by their handles, which an overlay can open only with the first two. A file without
  // contents, which refers to a lower layer, is not all in the upper directory, which is what moves; kernels differ in what they do unasked.
  await helper.mountOverlay(paths.merged, `${layers},index=on,nfs_export=on,metacopy=off`);
}
