/** The client of the workload `sockets`, in the network of a lab: sockets-client.mjs, told what to do. */
import path from "node:path";
import { expect } from "vitest";
import { PsSchema } from "./documents.js";
import type { TestLab } from "./lab.js";
import { type LineProcess, startLines } from "./lines.js";
import { projectRoot } from "./mwarp.js";

const PATIENCE_MS = 170_000;

export class SocketsClient {
  readonly #process: LineProcess;

  private constructor(process: LineProcess) {
    this.#process = process;
  }

  /** Of the only container. */
  static async start(lab: TestLab): Promise<SocketsClient> {
    const { namespace } = await lab.status();
    const { containers } = await lab.mwarp.json(PsSchema, ["ps"]);
    const { ipv4, ipv6 } = containers[0];
    const script = path.join(projectRoot, "test/support/sockets-client.mjs");
    const inside = ["nsenter", `--net=/run/netns/${namespace}`] as const;
    return new SocketsClient(await startLines([...inside, process.execPath, script, ipv4, ipv6!]));
  }

  /** Has it do something, and fails at the first byte that is lost, doubled or late. */
  async tell(command: string): Promise<Record<string, unknown>> {
    const from = this.#process.lines.length;
    this.#process.send(command);
    const done = new RegExp(`^.*"did":"${command}".*$`);
    const [line] = await this.#process.waitFor(done, { from, timeoutMs: PATIENCE_MS });
    expect(this.#process.lines.filter((said) => said.includes('"bad"'))).toEqual([]);
    return JSON.parse(line);
  }

  async end(): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}
