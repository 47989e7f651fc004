import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type Connection, ConnectionLost } from "../../../src/bench/applications/application.js";
import { ClosedLoop } from "../../../src/bench/applications/closed-loop.js";
import { OperationLog } from "../../../src/bench/applications/operations.js";

type Answer = () => Promise<number>;

/** An application whose connections do what the test says. */
class FakeApplication {
  readonly log = new OperationLog();
  readonly opened: number[] = [];
  busy = 0;
  mostBusy = 0;
  answer: Answer = () => sleep(1).then(() => 0);
  refuses = false;

  readonly connect = async (lane: number): Promise<Connection> => {
    if (this.refuses) throw new ConnectionLost("refused");
    this.opened.push(lane);
    let close = (): void => undefined;
    const closed = new Promise<never>((_, reject) => {
      close = () => reject(new ConnectionLost("closed"));
    });
    closed.catch(() => undefined);
    return {
      operate: async () => {
        this.mostBusy = Math.max(this.mostBusy, ++this.busy);
        try {
          return await Promise.race([this.answer(), closed]);
        } finally {
          this.busy--;
        }
      },
      close,
    };
  };

  loop(connections: number): ClosedLoop {
    return new ClosedLoop(connections, this.connect, this.log);
  }
}

const PAUSE_MS = 1_000;

describe("a closed loop", () => {
  it("has one operation under way on each connection, and writes down each with its latency", async () => {
    const application = new FakeApplication();
    application.answer = () => sleep(5).then(() => 0);
    const loop = application.loop(3);
    loop.resume();
    await sleep(100);
    await loop.pause(PAUSE_MS);
    expect(application.opened.toSorted()).toEqual([0, 1, 2]);
    expect(application.mostBusy).toBe(3);
    expect(application.log.length).toBeGreaterThan(5);
    const ends = [...application.log].map(({ endedAt }) => endedAt);
    expect(ends).toEqual(ends.toSorted((a, b) => a - b));
    for (const { latencyMs } of application.log) expect(latencyMs).toBeGreaterThan(3);
    expect(loop.takeFaults()).toEqual({ connections_lost: 0, wrong_answers: 0 });
  });

  it("is at rest after a pause, and goes on over the same connections", async () => {
    const application = new FakeApplication();
    const loop = application.loop(2);
    loop.resume();
    loop.resume();
    await sleep(30);
    await loop.pause(PAUSE_MS);
    const count = application.log.length;
    expect(application.busy).toBe(0);
    await sleep(30);
    expect(application.log.length).toBe(count);
    loop.resume();
    await sleep(30);
    await loop.pause(PAUSE_MS);
    expect(application.log.length).toBeGreaterThan(count);
    expect(application.opened).toHaveLength(2);
  });

  it("counts wrong answers, and only those since the last time", async () => {
    const application = new FakeApplication();
    let left = 3;
    application.answer = () => sleep(1).then(() => (left-- > 0 ? 1 : 0));
    const loop = application.loop(1);
    loop.resume();
    await sleep(50);
    await loop.pause(PAUSE_MS);
    expect(loop.takeFaults()).toEqual({ connections_lost: 0, wrong_answers: 3 });
    expect(loop.takeFaults()).toEqual({ connections_lost: 0, wrong_answers: 0 });
  });

  it("counts a connection that broke once, however long no other can be had, and opens one then", async () => {
    const application = new FakeApplication();
    const loop = application.loop(2);
    loop.resume();
    await sleep(20);
    application.refuses = true;
    let broken = 1;
    application.answer = async () => {
      if (broken-- > 0) throw new ConnectionLost("reset");
      await sleep(1);
      return 0;
    };
    await sleep(200);
    application.refuses = false;
    await sleep(150);
    await loop.pause(PAUSE_MS);
    expect(application.opened).toHaveLength(3);
    expect(loop.takeFaults()).toEqual({ connections_lost: 1, wrong_answers: 0 });
  });

  it("gives a connection up that gets no answer, and does not write that operation down", async () => {
    const application = new FakeApplication();
    application.answer = () => new Promise(() => undefined);
    const loop = application.loop(2);
    loop.resume();
    await sleep(20);
    await loop.pause(50);
    expect(application.log.length).toBe(0);
    expect(loop.takeFaults()).toEqual({ connections_lost: 2, wrong_answers: 0 });
  });

  it("does not take a defect for a fault of the application", async () => {
    const application = new FakeApplication();
    application.answer = () => Promise.reject(new TypeError("undefined is not a function"));
    const loop = application.loop(1);
    loop.resume();
    await sleep(20);
    await loop.pause(PAUSE_MS);
    expect(() => loop.takeFaults()).toThrow(TypeError);
  });
});
