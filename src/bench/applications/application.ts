/** What a client needs to know of an application: how to load it, use it and check it. */

/** A connection that was open is not any more, or none could be opened. Everything else that is thrown is a defect. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
}

export interface Connection {
  /** One operation at a time. Resolves with the number of answers that were not what they had to be. @throws ConnectionLost */
  operate(): Promise<number>;
  /** An operation that waits is rejected with ConnectionLost. */
  close(): void;
}

export interface ClientApplication {
  /** What an operation is, for people. */
  readonly operation: string;
  /** Rejects while the application does not answer yet. */
  probe(): Promise<void>;
  /** Fills it with data. `progress` gets the part that is done, 0 to 1. */
  load(progress: (part: number) => void): Promise<void>;
  /** Opens the connection `lane`, counted from 0. @throws ConnectionLost */
  connect(lane: number): Promise<Connection>;
  /** Looks at everything the operations left behind while none is under way; the number of things that are wrong. */
  check(progress: (part: number) => void): Promise<number>;
}
