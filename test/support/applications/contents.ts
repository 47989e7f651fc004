/** What is cut out of the unpacked packages for the container of each application. */
import type { Contents } from "../../../src/lab/container-rootfs.js";
import { sources } from "./c-project.js";

/** A file that is ours: its text, or a file of test/applications. */
type OwnFile = { readonly text: string } | { readonly from: string };

interface ApplicationContents extends Omit<Contents, "prefix" | "trees"> {
  readonly trees?: readonly string[];
  readonly files?: Readonly<Record<string, OwnFile>>;
  /** Directories to make, for what the application writes. */
  readonly directories?: readonly string[];
}

/** The Java runtime and the class that it runs, made with the JDK before anything is cut. */
export const java = { runtime: "/opt/java", classes: "/opt/java/classes" } as const;

const multiarch = "/usr/lib/x86_64-linux-gnu";
const gcc = { libexec: "/usr/libexec/gcc/x86_64-linux-gnu/14", lib: "/usr/lib/gcc/x86_64-linux-gnu/14" };

/** Of the C library: what the project includes, and what that includes. */
const headers = [
  ...[
    "alloca.h",
    "endian.h",
    "features-time64.h",
    "features.h",
    "limits.h",
    "linux/limits.h",
    "stdc-predef.h",
  ],
  ...["stdint.h", "stdio.h", "stdlib.h", "string.h", "strings.h", "x86_64-linux-gnu"],
];

/** Files of fixed content, small and larger than a socket's buffer. */
const page = (lines: number): OwnFile => ({
  text: Array.from({ length: lines }, (_, i) => `line ${i} of ${lines}\n`).join(""),
});

export const contents = {
  memcached: { programs: ["/usr/bin/memcached"] },
  nginx: {
    programs: ["/usr/sbin/nginx"],
    directories: ["/var/log/nginx", "/var/lib/nginx"],
    files: {
      "/etc/nginx/nginx.conf": { from: "nginx.conf" },
      "/srv/www/small": page(10),
      "/srv/www/large": page(4000),
    },
  },
  node: {
    programs: ["/usr/bin/node"],
    // Debian has modules of Node's own, in JavaScript, outside the program.
    trees: ["acorn", "acorn-walk", "cjs-module-lexer", "minimatch", "undici"].map(
      (name) => `/usr/share/nodejs/${name}`,
    ),
    files: { "/srv/count-server.mjs": { from: "count-server.mjs" } },
  },
  /** With SQLite, whose writer is in Python. */
  python: {
    programs: [
      "/usr/bin/python3.13",
      "/usr/bin/sqlite3",
      "/usr/lib/python3.13/lib-dynload/_sqlite3.cpython-313-x86_64-linux-gnu.so",
    ],
    trees: ["/usr/lib/python3.13"],
    without: [
      ...["asyncio", "ensurepip", "idlelib", "pydoc_data", "test", "tkinter", "turtle.py", "unittest"],
      // Leads out of the tree.
      "sitecustomize.py",
    ],
    files: {
      "/srv/count_server.py": { from: "count_server.py" },
      "/srv/sqlite_writer.py": { from: "sqlite_writer.py" },
    },
  },
  java: {
    programs: ["bin/java", "lib/server/libjvm.so"].map((file) => `${java.runtime}/${file}`),
    trees: [java.runtime],
    without: ["legal"],
  },
  build: {
    programs: [
      ...["gcc", "as", "ld", "make"].map((name) => `/usr/bin/${name}`),
      ...["cc1", "collect2", "liblto_plugin.so"].map((name) => `${gcc.libexec}/${name}`),
    ],
    trees: [
      ...["include", "crtbeginS.o", "crtendS.o", "libgcc.a", "libgcc_s.so"].map(
        (name) => `${gcc.lib}/${name}`,
      ),
      ...["Scrt1.o", "crti.o", "crtn.o", "libc.so", "libc_nonshared.a", "libgcc_s.so.1"].map(
        (name) => `${multiarch}/${name}`,
      ),
      ...headers.map((name) => `/usr/include/${name}`),
    ],
    files: sources,
  },
} as const satisfies Record<string, ApplicationContents>;
export type ApplicationName = keyof typeof contents;
