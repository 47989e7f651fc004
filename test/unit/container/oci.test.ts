import { describe, expect, it } from "vitest";
import { adaptBundle, type BundleOverrides, makeOciConfig } from "../../../src/container/oci.js";
import { isMwarpError, type MwarpError } from "../../../src/errors.js";

const made = makeOciConfig({
  argv: ["/bin/work", "64"],
  env: ["A=1"],
  cwd: "/",
  hostname: "web",
  memoryLimitBytes: 2 ** 28,
  terminal: null,
});
const none: BundleOverrides = {
  argv: null,
  env: [],
  cwd: null,
  hostname: "web",
  memoryLimitBytes: null,
  terminal: null,
};

/** The parts of a configuration that the tests change. */
interface Config {
  ociVersion: string;
  annotations?: object;
  hooks?: object;
  process: { terminal: boolean; args: string[]; cwd: string; consoleSize?: object };
  root: { path: string; readonly: boolean };
  mounts: object[];
  linux?: {
    namespaces?: { type: string; path?: string }[];
    devices?: { path: string }[];
    seccomp?: object;
    cgroupsPath?: string;
  };
}

/** A deep copy of a usable bundle, changed by `change`. */
function bundle(change: (config: Config & { linux: NonNullable<Config["linux"]> }) => void): unknown {
  const config = structuredClone(made) as unknown as Config & { linux: NonNullable<Config["linux"]> };
  change(config);
  return config;
}

function refusal(config: unknown): MwarpError {
  try {
    adaptBundle(config, none);
  } catch (error) {
    if (isMwarpError(error)) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("makeOciConfig", () => {
  it("makes a configuration that can move", () => {
    expect(adaptBundle(made, none)).toEqual(made);
  });

  it("carries command, environment and memory limit, with a default PATH", () => {
    expect(made).toMatchObject({
      process: { args: ["/bin/work", "64"], terminal: false, cwd: "/" },
      hostname: "web",
      linux: { resources: { memory: { limit: 2 ** 28 } } },
    });
    const { env } = made.process as { env: string[] };
    expect(env.map((entry) => entry.split("=")[0])).toEqual(["PATH", "A"]);
  });

  it("leaves a PATH that was given, and memory without limit", () => {
    const config = makeOciConfig({
      argv: ["x"],
      env: ["PATH=/opt"],
      cwd: "/",
      hostname: "h",
      memoryLimitBytes: null,
      terminal: null,
    });
    expect(config).toMatchObject({ process: { env: ["PATH=/opt"] } });
    expect(JSON.stringify(config)).not.toContain('"memory"');
  });

  it("has a terminal of the size that is asked for, and says of which kind, unless that was said", () => {
    const terminal = { rows: 30, columns: 90 };
    const input = { argv: ["sh"], cwd: "/", hostname: "h", memoryLimitBytes: null, terminal };
    expect(makeOciConfig({ ...input, env: [] })).toMatchObject({
      process: {
        terminal: true,
        consoleSize: { height: 30, width: 90 },
        env: [expect.stringMatching(/^PATH=/), "TERM=xterm"],
      },
    });
    const { process } = makeOciConfig({ ...input, env: ["PATH=/", "TERM=vt100"] });
    expect((process as { env: string[] }).env).toEqual(["PATH=/", "TERM=vt100"]);
  });

  it("forbids rings of io_uring, and ends no program of another architecture for it", () => {
    const { seccomp } = made.linux as { seccomp: { architectures: string[]; syscalls: object[] } };
    expect(seccomp).toMatchObject({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ errnoRet: 1 }] });
    expect(seccomp.syscalls).toMatchObject([{ names: expect.arrayContaining(["io_uring_setup"]) }]);
    expect(seccomp.architectures).toContain("SCMP_ARCH_X86");
  });

  it("mounts no more than two tmpfs, because CRIU packs each one during the freeze", () => {
    const { mounts } = made as { mounts: { type: string; destination: string }[] };
    expect(mounts.filter(({ type }) => type === "tmpfs").map(({ destination }) => destination)).toEqual([
      "/dev",
      "/dev/shm",
    ]);
  });
});

describe("adaptBundle", () => {
  it("keeps what it does not know and drops the cgroup path, which belongs to the VM", () => {
    const adapted = adaptBundle(
      bundle((config) => {
        config.annotations = { a: "b" };
        config.linux.seccomp = { defaultAction: "SCMP_ACT_ALLOW" };
        config.linux.cgroupsPath = "/machine/x";
        config.root = { path: "/srv/rootfs", readonly: true };
        config.process.consoleSize = { height: 1, width: 1 };
      }),
      none,
    );
    expect(adapted).toMatchObject({
      annotations: { a: "b" },
      linux: { seccomp: { defaultAction: "SCMP_ACT_ALLOW" } },
      root: { path: "rootfs", readonly: true },
    });
    expect(JSON.stringify(adapted)).not.toMatch(/cgroupsPath|consoleSize/);
  });

  it("keeps a terminal, or gives one", () => {
    const size = { height: 5, width: 6 };
    const own = bundle((config) => {
      config.process.terminal = true;
      config.process.consoleSize = size;
    });
    expect(adaptBundle(own, none)).toMatchObject({ process: { terminal: true, consoleSize: size } });
    const given = { ...none, terminal: { rows: 30, columns: 90 } };
    for (const config of [own, made])
      expect(adaptBundle(config, given)).toMatchObject({
        process: { terminal: true, consoleSize: { height: 30, width: 90 } },
      });
  });

  it("sets command, environment, directory, host name and memory limit on top", () => {
    const adapted = adaptBundle(made, {
      argv: ["top"],
      env: ["B=2"],
      cwd: "/tmp",
      hostname: "db",
      memoryLimitBytes: 4096,
      terminal: null,
    });
    expect(adapted).toMatchObject({
      process: { args: ["top"], cwd: "/tmp" },
      hostname: "db",
      linux: { resources: { memory: { limit: 4096 }, devices: [{ allow: false, access: "rwm" }] } },
    });
    expect((adapted.process as { env: string[] }).env.slice(-2)).toEqual(["A=1", "B=2"]);
  });

  const unmovable: [string, Parameters<typeof bundle>[0], string][] = [
    [
      "the VM's process ids",
      (c) => {
        c.linux.namespaces?.shift();
      },
      "linux.namespaces has no pid: it would share the VM's process ids",
    ],
    [
      "the VM's network",
      (c) => {
        c.linux.namespaces?.splice(1, 1);
      },
      "linux.namespaces has no network: it would share the VM's network",
    ],
    [
      "no namespaces at all",
      (c) => {
        delete c.linux.namespaces;
      },
      "linux.namespaces has no ipc: it would share the VM's IPC",
    ],
    [
      "a namespace to join",
      (c) => {
        c.linux.namespaces![1]!.path = "/run/netns/x";
      },
      "linux.namespaces joins /run/netns/x (network)",
    ],
    [
      "a user namespace",
      (c) => {
        c.linux.namespaces?.push({ type: "user" });
      },
      "linux.namespaces has user: the container's network belongs to the VM's user namespace, and CRIU takes only both or neither",
    ],
    [
      "a bind mount",
      (c) => {
        c.mounts.push({ destination: "/data", source: "/srv/data", options: ["rbind"] });
      },
      "mounts binds /srv/data of the VM to /data",
    ],
    [
      "another file system",
      (c) => {
        c.mounts.push({ destination: "/n", type: "nfs", source: "a:/b" });
      },
      "mounts has type nfs at /n",
    ],
    [
      "a device",
      (c) => {
        c.linux.devices = [{ path: "/dev/null" }, { path: "/dev/kvm" }];
      },
      "linux.devices has /dev/kvm: devices cannot follow",
    ],
    [
      "a hook",
      (c) => {
        c.hooks = { prestart: [{ path: "/usr/bin/x" }], poststop: [] };
      },
      "hooks.prestart runs programs of the VM",
    ],
  ];
  it.each(unmovable)("refuses a bundle with %s", (_, change, reason) => {
    const error = refusal(bundle(change));
    expect(error.code).toBe("MWARP_E_UNSUPPORTED");
    expect(error.details).toContain(reason);
    expect(error.message).toContain(reason);
  });

  it("names every reason at once", () => {
    const error = refusal(
      bundle((config) => {
        config.hooks = { prestart: [{}] };
        config.linux.namespaces = [{ type: "mount" }];
      }),
    );
    expect(error.details).toHaveLength(5);
  });

  it.each([
    ["no object", 7, "(top)"],
    [
      "no command",
      bundle((c) => {
        c.process.args = [];
      }),
      "process.args",
    ],
    [
      "no linux part",
      bundle((c) => {
        delete (c as Config).linux;
      }),
      "linux",
    ],
    [
      "another version of the specification",
      bundle((c) => {
        c.ociVersion = "2.0";
      }),
      "ociVersion",
    ],
    [
      "a relative directory",
      bundle((c) => {
        c.process.cwd = "x";
      }),
      "process.cwd",
    ],
  ])("says what is wrong with a configuration of %s", (_, config, field) => {
    const error = refusal(config);
    expect(error.code).toBe("MWARP_E_USAGE");
    expect(error.details.join()).toContain(`${field}: `);
  });
});
