/** The demo's side of its client process. */
import { MwarpError } from "../errors.js";
import { ClientProcess, insideNamespace, type Progress } from "../lab/index.js";
import { distFile } from "../paths.js";
import {
  type CheckResult,
  CheckResultSchema,
  type ClientRequest,
  type TrafficReport,
  TrafficReportSchema,
} from "./client-protocol.js";

/** Loading and checking 256 MiB takes ten seconds under TCG. */
const LIMIT_MS = 300_000;

export class DemoClient implements AsyncDisposable {
  private constructor(private readonly client: ClientProcess<ClientRequest>) {}

  /** Starts the client in the network namespace `namespace`, to talk to `host:port`. It is killed when `signal` aborts. */
  static start(namespace: string, host: string, port: number, signal: AbortSignal): DemoClient {
    return new DemoClient(
      new ClientProcess({
        what: "the demo's client",
        file: distFile("demo", "client-main.js"),
        args: [host, String(port)],
        prefix: insideNamespace(namespace),
        limitMs: LIMIT_MS,
        signal,
      }),
    );
  }

  /** Waits until Redis takes commands. @throws MWARP_E_TIMEOUT */
  async ready(timeoutMs: number): Promise<void> {
    if ((await this.client.ask({ do: "ready", timeout_ms: timeoutMs })) !== true)
      throw new MwarpError("MWARP_E_TIMEOUT", "Redis does not answer");
  }

  async load(keys: number, progress: Progress): Promise<void> {
    await this.client.ask({ do: "load", keys }, progress);
  }

  async check(keys: number, progress: Progress): Promise<CheckResult> {
    return CheckResultSchema.parse(await this.client.ask({ do: "check", keys }, progress));
  }

  async startTraffic(): Promise<void> {
    await this.client.ask({ do: "traffic" });
  }

  /**
   * Waits until the traffic gets answers again. A request that met a frozen container is sent again by the client's TCP at doubling
   * intervals (RFC 6298), so that this takes up to as long again as the container stood still.
   * @throws MWARP_E_TIMEOUT
   */
  async flowing(timeoutMs: number): Promise<void> {
    if ((await this.client.ask({ do: "flowing", timeout_ms: timeoutMs })) !== true)
      throw new MwarpError("MWARP_E_TIMEOUT", "the client's open connection gets no answers any more");
  }

  /** What the traffic saw since the last mark. */
  async mark(): Promise<TrafficReport> {
    return TrafficReportSchema.parse(await this.client.ask({ do: "mark" }));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.client[Symbol.asyncDispose]();
  }
}
