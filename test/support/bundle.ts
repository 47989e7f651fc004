/** OCI bundles for the tests. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeOciConfig } from "../../src/container/oci.js";

/** A bundle in `directory` that runs `argv` from `rootfs` under a seccomp filter by which nobody makes a directory. */
export function writeBundle(directory: string, rootfs: string, argv: readonly string[]): string {
  const config = makeOciConfig({
    argv,
    env: [],
    cwd: "/",
    hostname: "bundle",
    memoryLimitBytes: null,
    terminal: null,
  });
  const seccomp = {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: ["SCMP_ARCH_X86_64"],
    syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 1 }],
  };
  mkdirSync(directory, { recursive: true });
  const document = { ...config, root: { path: rootfs }, linux: { ...(config.linux as object), seccomp } };
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(document));
  return directory;
}
