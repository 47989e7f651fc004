/** Commands in a VM of the benchmark, as root. */
import { Readable } from "node:stream";
import type { DaemonClient } from "../daemon/client.js";
import { MwarpError } from "../errors.js";

interface Execution {
  /** Resolves once standard output holds `text`. @throws when the command ends first */
  said(text: string): Promise<void>;
  /** Standard output of a command that ended with 0. @throws MWARP_E_LAB with what it said on standard error */
  readonly finished: Promise<string>;
}

export interface ExecutionOptions {
  /** Standard input. */
  readonly input?: Buffer | undefined;
  /** What the command is called in an error; its arguments without the program otherwise. */
  readonly name?: string;
}

export function executeInVm(
  daemon: Pick<DaemonClient, "execInVm">,
  vm: string,
  argv: readonly string[],
  signal: AbortSignal,
  { input, name = argv.slice(1).join(" ") }: ExecutionOptions = {},
): Execution {
  const output = { 1: "", 2: "" };
  let look = (): void => undefined;
  const finished = daemon
    .execInVm(vm, argv, {
      stdin: input === undefined ? null : Readable.from([input]),
      signal,
      write: (fd, data) => {
        output[fd] += data.toString();
        look();
      },
    })
    .then((status) => {
      if (status === 0) return output[1];
      const details = output[2].split("\n").filter((line) => line !== "");
      throw new MwarpError("MWARP_E_LAB", `${name} in ${vm} ended with ${status}`, { details });
    });
  const said = (text: string): Promise<void> => {
    const heard = new Promise<void>((resolve) => {
      look = () => {
        if (output[1].includes(text)) resolve();
      };
      look();
    });
    return Promise.race([heard, finished.then(() => undefined)]);
  };
  return { said, finished };
}
