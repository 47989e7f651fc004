/** Images for the tests, made here and never fetched. */
import { execFileSync } from "node:child_process";
import {
  chownSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";

function tool(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A layer more: what `change` does to the files of the image, which becomes `tag`. */
function addLayer(layout: string, from: string, tag: string, change: (rootfs: string) => void): void {
  const bundle = `${layout}.bundle`;
  tool("umoci", "unpack", "--image", `${layout}:${from}`, bundle);
  change(path.join(bundle, "rootfs"));
  tool("umoci", "repack", "--image", `${layout}:${tag}`, bundle);
  rmSync(bundle, { recursive: true });
}

/**
 * An image layout with two images, and a directory beside it, LAYOUT.outside, to which a link in them leads. `base`: busybox, a user `web`, a directory that is hers with two files. `app`: another layer,
 * which takes one file away, and a configuration in which everything is said.
 */
export function makeLayout(layout: string): void {
  mkdirSync(`${layout}.outside`);
  tool("umoci", "init", "--layout", layout);
  tool("umoci", "new", "--image", `${layout}:base`);
  addLayer(layout, "base", "base", (rootfs) => {
    for (const name of ["bin", "etc", "data"]) mkdirSync(path.join(rootfs, name));
    copyFileSync("/bin/busybox", path.join(rootfs, "bin/busybox"));
    for (const name of ["sh", "id", "ls", "pwd", "sleep", "env", "cat", "kill", "touch"])
      symlinkSync("busybox", path.join(rootfs, "bin", name));
    writeFileSync(
      path.join(rootfs, "etc/passwd"),
      "root:x:0:0::/root:/bin/sh\nweb:x:1234:1235::/home/web:/bin/sh\n",
    );
    writeFileSync(path.join(rootfs, "etc/group"), "root:x:0:\nweb:x:1235:\nextra:x:77:web\n");
    for (const name of ["kept", "gone"]) writeFileSync(path.join(rootfs, "data", name), name);
    chownSync(path.join(rootfs, "data"), 1234, 1235);
    symlinkSync(`${layout}.outside`, path.join(rootfs, "outside"));
  });
  addLayer(layout, "base", "app", (rootfs) => {
    rmSync(path.join(rootfs, "data/gone"));
    writeFileSync(path.join(rootfs, "data/added"), "added");
    chownSync(path.join(rootfs, "data/added"), 4321, 0);
  });
  const said = {
    entrypoint: ["/bin/sh", "-c"],
    cmd: ["id; pwd; env; ls /data; exec sleep 1000"],
    env: ["COLOUR=red", "SIZE=big"],
  };
  const flags = Object.entries(said).flatMap(([name, values]) =>
    values.flatMap((value) => [`--config.${name}`, value]),
  );
  const rest = [
    "--config.user",
    "web",
    "--config.workingdir",
    "/data",
    "--config.volume",
    "/volume/deep",
    "--config.volume",
    "/outside/no",
  ];
  const more = ["--config.exposedports", "80/tcp", "--config.stopsignal", "SIGINT"];
  tool("umoci", "config", "--image", `${layout}:app`, ...flags, ...rest, ...more);
}

/** The image `app` of a layout in another form. @param reference as skopeo has it, "docker-archive:FILE:NAME:TAG" */
export function copyImage(layout: string, reference: string): void {
  tool("skopeo", "--insecure-policy", "copy", "--quiet", `oci:${layout}:app`, reference);
}

/** What `docker save` writes of the image `app`, built with a HEALTHCHECK, which no OCI tool writes. */
export function saveWithHealthcheck(layout: string, archive: string, healthcheck: object): void {
  copyImage(layout, `docker-archive:${archive}:web:1.0`);
  const files = `${archive}.files`;
  mkdirSync(files);
  tool("tar", "-xf", archive, "-C", files);
  const manifest = JSON.parse(readFileSync(path.join(files, "manifest.json"), "utf8")) as {
    Config: string;
  }[];
  const config = path.join(files, manifest[0]!.Config);
  const said = JSON.parse(readFileSync(config, "utf8")) as { config: object };
  writeFileSync(config, JSON.stringify({ ...said, config: { ...said.config, Healthcheck: healthcheck } }));
  tool("tar", "-cf", archive, "-C", files, ".");
  rmSync(files, { recursive: true });
}

/** A copy of a layout whose image `app` is for another processor. */
export function makeForeign(layout: string, copy: string): void {
  cpSync(layout, copy, { recursive: true });
  tool("umoci", "config", "--image", `${copy}:app`, "--architecture", "s390x");
}

/** A copy of a layout in which one byte of the largest blob is another. */
export function makeDamaged(layout: string, copy: string): void {
  cpSync(layout, copy, { recursive: true });
  const blobs = path.join(copy, "blobs/sha256");
  const [largest] = readdirSync(blobs)
    .map((name) => path.join(blobs, name))
    .sort((a, b) => statSync(b).size - statSync(a).size);
  tool("sh", "-c", 'printf X | dd of="$0" bs=1 seek=5000 conv=notrunc 2>&1', largest);
}
