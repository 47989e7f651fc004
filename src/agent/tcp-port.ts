/** TCP ports of this VM that a tool is to listen on, without a connection that would try it out. */
import { connect, createServer } from "node:net";
import { MwarpError } from "../errors.js";
import { readIfThere } from "./files.js";
import { mustRun } from "./process.js";

/** A port on which nothing listens now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || address === null) throw new MwarpError("MWARP_E_INTERNAL", "no port");
  return address.port;
}

/** True once something listens on the port, by the kernel's tables: CRIU serves one connection, so it must not be tried out. */
export async function listens(port: number): Promise<boolean> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const tables = [await readIfThere("/proc/net/tcp"), await readIfThere("/proc/net/tcp6")].join("\n");
  return new RegExp(`:${hex} [0-9A-F]+:0000 0A `).test(tables);
}

/** True while there is an established connection to this address, by the kernel's table (Documentation/networking/proc_net_tcp.rst). */
export async function isConnectedTo(address: string, port: number): Promise<boolean> {
  const hex = (value: number, digits: number): string =>
    value.toString(16).toUpperCase().padStart(digits, "0");
  // The address as the kernel has it in memory, least significant byte first.
  const host = address
    .split(".")
    .reverse()
    .map((part) => hex(Number(part), 2))
    .join("");
  const table = (await readIfThere("/proc/net/tcp")) ?? "";
  return table.includes(` ${host}:${hex(port, 4)} 01 `);
}

/** Ends every connection of this VM to that address, whoever has it and whether or not its peer still lives (ss(8), --kill). */
export async function endConnections(address: string, port: number): Promise<void> {
  await mustRun(["ss", "--kill", "--tcp", "dst", address, "dport", "=", `:${port}`]);
}

/** Connects and hangs up: a server that waits for its one client has had it. Whether anybody listened is of no consequence. */
export function connectAndClose(address: string, port: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: 1_000 });
    for (const event of ["connect", "error", "timeout"] as const) socket.on(event, () => socket.destroy());
    socket.once("close", () => resolve());
  });
}
