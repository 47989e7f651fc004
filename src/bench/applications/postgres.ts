/** PostgreSQL with the transactions of pgbench. */
import pg from "pg";
import * as z from "zod/mini";
import { type ClientApplication, type Connection, ConnectionLost } from "./application.js";
import type { ClientOptions } from "./client-protocol.js";
import {
  disagreements,
  type Ledger,
  loadStatements,
  type Scale,
  type Statement,
  SUMS,
  scaleFor,
  transaction,
} from "./postgres-schema.js";

const CONNECT_MS = 10_000;
const MAX_DELTA = 5000;

const SumsSchema = z.object({
  transactions: z.int(),
  history: z.int(),
  accounts: z.int(),
  tellers: z.int(),
  branches: z.int(),
});

export class PostgresApplication implements ClientApplication {
  readonly operation: string;
  private readonly scale: Scale;
  private readonly ledger: Ledger = { transactions: 0, deltas: 0, doubtful: [] };

  constructor(private readonly options: ClientOptions) {
    this.scale = scaleFor(options.bytes, options.connections);
    const { branches, accounts } = this.scale;
    this.operation = `pgbench's TPC-B-like transaction, prepared, ${branches} branches and ${accounts} accounts`;
  }

  async probe(): Promise<void> {
    await this.withSession((session) => session.query("SELECT 1"));
  }

  async load(progress: (part: number) => void): Promise<void> {
    const statements = loadStatements(this.scale);
    await this.withSession(async (session) => {
      for (const [index, statement] of statements.entries()) {
        await session.query(statement);
        progress((index + 1) / statements.length);
      }
    });
  }

  async check(): Promise<number> {
    const { rows } = await this.withSession((session) => session.query(SUMS));
    return disagreements(SumsSchema.parse(rows[0]), this.ledger);
  }

  async connect(): Promise<Connection> {
    return new PostgresConnection(await this.open(), this.scale, this.ledger);
  }

  private async open(): Promise<pg.Client> {
    const { host, port } = this.options;
    const session = new pg.Client({
      host,
      port,
      user: "postgres",
      database: "postgres",
      connectionTimeoutMillis: CONNECT_MS,
    });
    try {
      await session.connect();
      return session;
    } catch (cause) {
      throw new ConnectionLost("no connection to PostgreSQL", { cause });
    }
  }

  private async withSession<T>(work: (session: pg.Client) => Promise<T>): Promise<T> {
    const session = await this.open();
    try {
      return await work(session);
    } finally {
      await session.end();
    }
  }
}

/** From 1 to `max`, all alike. */
const upTo = (max: number): number => 1 + Math.floor(Math.random() * max);

class PostgresConnection implements Connection {
  private failure: ConnectionLost | null = null;

  constructor(
    private readonly session: pg.Client,
    private readonly scale: Scale,
    private readonly ledger: Ledger,
  ) {
    session.on("error", (cause) => this.fail(cause));
    session.on("end", () => this.fail(new Error("PostgreSQL closed the connection")));
  }

  async operate(): Promise<number> {
    const teller = upTo(this.scale.tellers);
    const branch = upTo(this.scale.branches);
    const account = upTo(this.scale.accounts);
    const delta = upTo(2 * MAX_DELTA + 1) - MAX_DELTA - 1;
    let committing = false;
    try {
      let wrong = 0;
      wrong += await this.run(transaction.begin);
      wrong += await this.run(transaction.account, delta, account);
      wrong += await this.run(transaction.balance, account);
      wrong += await this.run(transaction.teller, delta, teller);
      wrong += await this.run(transaction.branch, delta, branch);
      wrong += await this.run(transaction.history, teller, branch, account, delta);
      committing = true;
      wrong += await this.run(transaction.end);
      this.ledger.transactions++;
      this.ledger.deltas += delta;
      return wrong;
    } catch (error) {
      if (error instanceof pg.DatabaseError && this.failure === null) return this.rollBack();
      if (committing) this.ledger.doubtful.push(delta);
      throw this.failure ?? error;
    }
  }

  close(): void {
    this.fail(new Error("closed"));
  }

  /** The statement's answer, 1 when it is not what it must be. */
  private async run(statement: Statement, ...values: number[]): Promise<number> {
    const { name, text, rows } = statement;
    const result = await this.session.query({ name, text, values });
    return rows === null || result.rowCount === rows ? 0 : 1;
  }

  /** PostgreSQL refused a statement, which it must not: one wrong answer, and the connection goes on. */
  private async rollBack(): Promise<number> {
    try {
      await this.session.query("ROLLBACK");
      return 1;
    } catch (error) {
      throw this.failure ?? error;
    }
  }

  private fail(cause: Error): void {
    this.failure ??= new ConnectionLost("the connection to PostgreSQL is gone", { cause });
    // Without a word of farewell, which would wait for a server that does not answer.
    this.session.connection?.stream.destroy();
  }
}
