/** The tables and the invariant of pgbench (TPC-B, sort of). */

const TELLERS_PER_BRANCH = 10;

/** One branch for each connection, so that no row is wanted by all of them at once. */
export interface Scale {
  readonly branches: number;
  readonly tellers: number;
  readonly accounts: number;
}

/** Row, line pointer and index entry of an account, about. */
const BYTES_PER_ACCOUNT = 150;

export function scaleFor(bytes: number, connections: number): Scale {
  return {
    branches: connections,
    tellers: connections * TELLERS_PER_BRANCH,
    accounts: Math.max(connections, Math.floor(bytes / BYTES_PER_ACCOUNT)),
  };
}

/** As `pgbench -i` does it, with data made by the server. */
export function loadStatements({ branches, tellers, accounts }: Scale): string[] {
  const numbers = (count: number): string => `generate_series(1, ${count}) AS n`;
  return [
    "DROP TABLE IF EXISTS pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
    "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))",
    "CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84)) WITH (fillfactor = 70)",
    "CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84)) WITH (fillfactor = 90)",
    "CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88)) WITH (fillfactor = 70)",
    `INSERT INTO pgbench_branches SELECT n, 0, '' FROM ${numbers(branches)}`,
    `INSERT INTO pgbench_tellers SELECT n, (n - 1) % ${branches} + 1, 0, '' FROM ${numbers(tellers)}`,
    `INSERT INTO pgbench_accounts SELECT n, (n - 1) % ${branches} + 1, 0, '' FROM ${numbers(accounts)}`,
    "ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid)",
    "ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid)",
    "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)",
    "VACUUM ANALYZE pgbench_branches, pgbench_tellers, pgbench_accounts, pgbench_history",
    "CHECKPOINT",
  ];
}

export interface Statement {
  /** Prepared once for each connection, as by `pgbench -M prepared`. */
  readonly name: string;
  readonly text: string;
  /** Rows it changes or gives when all is well; null: not rows. */
  readonly rows: number | null;
}

export const transaction = {
  begin: { name: "begin", text: "BEGIN", rows: null },
  account: {
    name: "account",
    text: "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
    rows: 1,
  },
  balance: { name: "balance", text: "SELECT abalance FROM pgbench_accounts WHERE aid = $1", rows: 1 },
  teller: {
    name: "teller",
    text: "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2",
    rows: 1,
  },
  branch: {
    name: "branch",
    text: "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2",
    rows: 1,
  },
  history: {
    name: "history",
    text: "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
    rows: 1,
  },
  end: { name: "end", text: "END", rows: null },
} as const satisfies Record<string, Statement>;

export const SUMS = `SELECT
  (SELECT count(*) FROM pgbench_history)::int AS transactions,
  (SELECT coalesce(sum(delta), 0) FROM pgbench_history)::int AS history,
  (SELECT sum(abalance) FROM pgbench_accounts)::int AS accounts,
  (SELECT sum(tbalance) FROM pgbench_tellers)::int AS tellers,
  (SELECT sum(bbalance) FROM pgbench_branches)::int AS branches`;

/** What the database holds. */
export interface Sums {
  readonly transactions: number;
  readonly history: number;
  readonly accounts: number;
  readonly tellers: number;
  readonly branches: number;
}

/** What the client knows. */
export interface Ledger {
  /** Transactions whose commit was confirmed, and the sum of their deltas. */
  transactions: number;
  deltas: number;
  /** Deltas of transactions of which the confirmation never came: the connection was lost. Each was done, or was not. */
  doubtful: number[];
}

/**
 * How many things are wrong: the four sums must be the same (pgbench's own invariant), each transaction that was confirmed must be
 * there once, and no other but such as are in doubt.
 */
export function disagreements(sums: Sums, ledger: Ledger): number {
  const { transactions, history, accounts, tellers, branches } = sums;
  const unequal = [accounts, tellers, branches].filter((sum) => sum !== history).length;
  const more = transactions - ledger.transactions;
  const outOfRange = Math.max(-more, more - ledger.doubtful.length, 0);
  const sumIsKnown = ledger.doubtful.length === 0;
  return unequal + outOfRange + (sumIsKnown && history !== ledger.deltas ? 1 : 0);
}
