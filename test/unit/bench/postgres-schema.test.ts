import { describe, expect, it } from "vitest";
import {
  disagreements,
  type Ledger,
  loadStatements,
  type Sums,
  scaleFor,
} from "../../../src/bench/applications/postgres-schema.js";

const ledger: Ledger = { transactions: 10, deltas: 420, doubtful: [] };
const sums: Sums = { transactions: 10, history: 420, accounts: 420, tellers: 420, branches: 420 };

describe("pgbench's invariant", () => {
  it("holds when all sums agree and every confirmed transaction is there once", () => {
    expect(disagreements(sums, ledger)).toBe(0);
  });

  it.each([
    ["an update that is missing from the accounts", { accounts: 400 }, 1],
    ["one that is missing from tellers and branches", { tellers: 400, branches: 400 }, 2],
    ["a confirmed transaction that is gone", { transactions: 9 }, 1],
    ["three that were done twice", { transactions: 13 }, 3],
    [
      "sums that agree, but not with what was confirmed",
      { history: 1, accounts: 1, tellers: 1, branches: 1 },
      1,
    ],
  ])("finds %s", (_, changed, wrong) => {
    expect(disagreements({ ...sums, ...changed }, ledger)).toBe(wrong);
  });

  it("leaves open whether a transaction in doubt was done, but not whether it was done twice", () => {
    const inDoubt = { ...ledger, doubtful: [5] };
    const done = { transactions: 11, history: 425, accounts: 425, tellers: 425, branches: 425 };
    expect(disagreements(sums, inDoubt)).toBe(0);
    expect(disagreements(done, inDoubt)).toBe(0);
    expect(disagreements({ ...done, transactions: 12 }, inDoubt)).toBe(1);
    expect(disagreements({ ...sums, transactions: 9 }, inDoubt)).toBe(1);
  });
});

describe("the tables", () => {
  it("have a branch for each connection, ten tellers for each branch, and accounts for the rest", () => {
    expect(scaleFor(1_500_000, 4)).toEqual({ branches: 4, tellers: 40, accounts: 10_000 });
    expect(scaleFor(1, 4).accounts).toBe(4);
  });

  it("are filled before they get their keys", () => {
    const statements = loadStatements(scaleFor(1_500_000, 4));
    const place = (part: string): number => statements.findIndex((statement) => statement.includes(part));
    expect(place("generate_series(1, 10000)")).toBeLessThan(place("pgbench_accounts ADD PRIMARY KEY"));
    expect(place("generate_series(1, 10000)")).toBeGreaterThan(place("CREATE TABLE pgbench_accounts"));
  });
});
