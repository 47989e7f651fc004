/** A session's side of its client process. */
import { MwarpError } from "../../errors.js";
import { ClientProcess, insideNamespace } from "../../lab/index.js";
import { distFile } from "../../paths.js";
import {
  type ClientOptions,
  type ClientRequest,
  type Faults,
  FaultsSchema,
  OperationTextSchema,
} from "./client-protocol.js";
import { type Timeline, TimelineSchema, type Window } from "./timeline.js";

/** Loading a GiB over an emulated network card on a busy host. */
const LIMIT_MS = 900_000;

type PartDone = (part: number) => void;

export class ApplicationClient implements AsyncDisposable {
  readonly #process: ClientProcess<ClientRequest>;
  readonly #application: string;

  /** Starts the client in the network namespace `namespace`. It is killed when `signal` aborts. */
  constructor(namespace: string, options: ClientOptions, signal: AbortSignal) {
    this.#application = options.application;
    this.#process = new ClientProcess({
      what: `the client of ${options.application}`,
      file: distFile("bench", "applications", "client-main.js"),
      args: [JSON.stringify(options)],
      prefix: insideNamespace(namespace),
      limitMs: LIMIT_MS,
      signal,
    });
  }

  /** Waits until the application answers. @throws MWARP_E_TIMEOUT */
  async ready(timeoutMs: number): Promise<void> {
    if ((await this.#process.ask({ do: "ready", timeout_ms: timeoutMs })) !== true)
      throw new MwarpError("MWARP_E_TIMEOUT", `${this.#application} did not answer in ${timeoutMs / 1000} s`);
  }

  /** Loads the data; gives what an operation is, for people. */
  async load(progress: PartDone): Promise<string> {
    return OperationTextSchema.parse(await this.#process.ask({ do: "load" }, progress));
  }

  /** Begins to ask, and to write down every operation. */
  async resume(): Promise<void> {
    await this.#process.ask({ do: "resume" });
  }

  /** The window of what was written down since `resume`. */
  async timeline(window: Window): Promise<Timeline> {
    return TimelineSchema.parse(await this.#process.ask({ do: "timeline", window }));
  }

  /** Stops asking and looks at all the data; what went wrong since the last time. */
  async settle(timeoutMs: number, progress: PartDone): Promise<Faults> {
    return FaultsSchema.parse(await this.#process.ask({ do: "settle", timeout_ms: timeoutMs }, progress));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}
