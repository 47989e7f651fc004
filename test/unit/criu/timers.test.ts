import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { TimerFileEntrySchema } from "../../../src/criu/gen/timer_pb.js";
import { decodeImage, encodeImage } from "../../../src/criu/image.js";
import { restartTimers } from "../../../src/criu/timers.js";

type Timer = { ticks?: bigint; vsec?: bigint; vnsec?: bigint; isec?: bigint; insec?: bigint };
const NONE = { ticks: 0n, vsec: 0n, vnsec: 0n, isec: 0n, insec: 0n };

function image(...timers: readonly Timer[]): Uint8Array {
  const records = timers.map((timer) => {
    const entry = create(TimerFileEntrySchema, { type: 17, timer: { ...NONE, ...timer } });
    // A field that mWarp knows nothing of: id, number 2.
    return Buffer.concat([toBinary(TimerFileEntrySchema, entry), Buffer.from([0x10, 0x2a])]);
  });
  const regular = create(TimerFileEntrySchema, { type: 1 });
  return encodeImage("files", [toBinary(TimerFileEntrySchema, regular), ...records]);
}

const read = (bytes: Uint8Array): unknown[] =>
  decodeImage("files.img", "files", bytes)
    .map((record) => fromBinary(TimerFileEntrySchema, record).timer)
    .filter((timer) => timer !== undefined)
    .map(({ ticks, vsec, vnsec }) => [ticks, vsec, vnsec]);

it("a periodic timer that has expired unread gets its interval, and keeps all else that was said of it", () => {
  const before = image({ ticks: 3n, isec: 2n, insec: 5n }, { ticks: 1n, insec: 7n });
  const after = restartTimers(before);
  expect(read(after)).toEqual([
    [3n, 2n, 5n],
    [1n, 0n, 7n],
  ]);
  for (const record of decodeImage("files.img", "files", after).slice(1))
    expect(Buffer.from(record).includes(Buffer.from([0x10, 0x2a]))).toBe(true);
});

it("a timer that runs, that has been stopped, or that was to fire once is left alone", () => {
  const before = image(
    { vnsec: 4n, insec: 7n },
    { insec: 7n },
    { ticks: 1n },
    { ticks: 2n, vsec: 1n, isec: 9n },
  );
  expect(restartTimers(before)).toBe(before);
});
