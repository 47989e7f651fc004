/** Datagrams that go through the lab's bridge to its VMs, and some back, as many as an emulated VM can just about take. */
import path from "node:path";
import type { TestLab } from "./lab.js";
import { startLines } from "./lines.js";
import { projectRoot } from "./mwarp.js";

const PORT = 7;
const ECHO = `require("dgram").createSocket("udp4").on("message",function(data,from){this.send(data,from.port,from.address)}).bind(${PORT})`;

export interface Flood extends AsyncDisposable {
  end(): Promise<{ readonly sent: number; readonly echoed: number }>;
}

/** Begins to flood `vms`, each of which sends back a part of what it gets. */
export async function startFlood(lab: TestLab, vms: readonly string[]): Promise<Flood> {
  for (const vm of vms)
    await lab.guest(vm, "sh", "-c", `node -e '${ECHO}' >/dev/null 2>&1 </dev/null & echo $! > /tmp/flood`);
  const { namespace } = await lab.status();
  const addresses = vms.map((vm) => vmAddressOf(lab, vm));
  const program = path.join(projectRoot, "test/support/flood-client.mjs");
  const argv = [process.execPath, program, String(PORT), ...(await Promise.all(addresses))] as const;
  const client = await startLines(["nsenter", `--net=/run/netns/${namespace}`, ...argv]);
  await client.waitFor(/"flooding"/, { timeoutMs: 60_000 });
  return {
    async end() {
      client.send("end");
      const [text] = await client.waitFor(/\{"sent".*/);
      for (const vm of vms) await lab.guest(vm, "sh", "-c", "kill $(cat /tmp/flood)");
      return JSON.parse(text) as { sent: number; echoed: number };
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

async function vmAddressOf(lab: TestLab, vm: string): Promise<string> {
  const text = await lab.guest(vm, "ip", "-4", "-o", "addr", "show", "dev", "br0");
  const address = /inet (\S+)\//.exec(text)?.[1];
  if (address === undefined) throw new Error(`${vm} has no address: ${text}`);
  return address;
}
