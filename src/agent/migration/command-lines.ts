/** The command lines of stock runtimes and CRIU: what an expert would type by hand for each method. */
import { join } from "node:path";
import type { PageRoute, PageServer } from "../../protocol/agent.js";
import { consoleArguments, type Stdio } from "../job.js";
import { type ContainerPaths, type MigrationPaths, migrationPaths } from "../paths.js";
import { runtimeArguments } from "../runtimes/runtime.js";
import type { DestinationRecord, SourceRecord } from "./record.js";

const hostPort = ({ address, port }: PageServer): string => `${address}:${port}`;

/** runc takes a parent as a path relative to the images (checkpoint.go, getCheckpointPaths). */
const parentPath = (after: number | null): string[] =>
  after === null ? [] : ["--parent-path", `../round-${after}`];

/** One round of a pre-copy; what is as it was in the round before stays there. */
export function preDumpCommand(record: SourceRecord, round: number, server: PageServer): string[] {
  const paths = migrationPaths(record.id);
  return runtimeArguments(
    record.runtime,
    paths.job,
    ...["checkpoint", "--pre-dump", "--image-path", paths.round(round), "--work-path", paths.work],
    ...parentPath(round > 1 ? round - 1 : null),
    ...["--page-server", hostPort(server), record.name],
  );
}

/** @param serves where CRIU is to serve the pages of a lazy dump */
export function checkpointCommand(record: SourceRecord, route: PageRoute): string[] {
  const paths = migrationPaths(record.id);
  return runtimeArguments(
    record.runtime,
    paths.job,
    ...["checkpoint", "--image-path", paths.images, "--work-path", paths.work],
    ...["--tcp-established", "--file-locks", ...pageArguments(record, route), record.name],
  );
}

function pageArguments(record: SourceRecord, route: PageRoute): string[] {
  if (route.kind === "none") return ["--parent-path", "../parent"];
  if (route.kind === "server") return [...parentPath(route.after), "--page-server", hostPort(route.server)];
  if (record.serves === null) throw new Error("a lazy dump without a port");
  // Left running, that is: held by the freezer. CRIU kills nothing when it has served, as the commit may still not have come.
  return ["--leave-running", "--lazy-pages", "--page-server", hostPort(record.serves)];
}

/** @param images where the pages go, one of the directories of this migration */
export function pageServerCommand(
  paths: MigrationPaths,
  images: string,
  after: number | null,
  { address, port }: PageServer,
): string[] {
  // What a later round brings anew is freed in the earlier ones: the images never take much more than the container has.
  const parent = after === null ? [] : ["--prev-images-dir", `../round-${after}`, "--auto-dedup"];
  return [
    ...["criu", "page-server", "--images-dir", images, "--work-dir", paths.work],
    ...["--log-file", "page-server.log", ...parent, "--address", address, "--port", String(port)],
  ];
}

export function lazyPagesCommand(paths: MigrationPaths, { address, port }: PageServer): string[] {
  return [
    ...["criu", "lazy-pages", "--images-dir", paths.images, "--work-dir", paths.work],
    ...["--log-file", "lazy-pages.log", "--page-server", "--address", address, "--port", String(port)],
  ];
}

export function restoreCommand(
  record: DestinationRecord,
  container: ContainerPaths,
  { pagesFrom, stdio }: { readonly pagesFrom: PageServer | null; readonly stdio: Stdio },
): string[] {
  const paths = migrationPaths(record.id);
  return runtimeArguments(
    record.runtime,
    paths.job,
    ...["restore", "--detach", "--image-path", paths.images, "--work-path", paths.work],
    ...["--bundle", container.bundle, "--pid-file", container.pid],
    ...consoleArguments(stdio, paths.job),
    ...(pagesFrom === null ? [] : ["--lazy-pages"]),
    ...["--tcp-established", "--file-locks", record.name],
  );
}

/** CRIU's socket between a lazy restore and `criu lazy-pages` (criu/uffd.c, LAZY_PAGES_SOCK_NAME). */
export const lazySocket = (paths: MigrationPaths): string => join(paths.work, "lazy-pages.socket");
