import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeCommand, RedisError, type Reply, ReplyParser } from "../../../src/redis/resp.js";

/** A reply as the server would send it. */
function encodeReply(reply: Reply): Buffer {
  if (reply === null) return Buffer.from("$-1\r\n");
  if (reply instanceof RedisError) return Buffer.from(`-${reply.message}\r\n`);
  if (typeof reply === "string") return Buffer.from(`+${reply}\r\n`);
  if (typeof reply === "number") return Buffer.from(`:${reply}\r\n`);
  if (Buffer.isBuffer(reply))
    return Buffer.concat([Buffer.from(`$${reply.length}\r\n`), reply, Buffer.from("\r\n")]);
  return Buffer.concat([Buffer.from(`*${reply.length}\r\n`), ...reply.map(encodeReply)]);
}

const word = fc.stringMatching(/^[A-Za-z0-9 ]{0,20}$/);
const { reply } = fc.letrec<{ reply: Reply }>((tie) => ({
  reply: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    word,
    word.map((text) => new RedisError(text)),
    fc.integer(),
    fc.uint8Array({ maxLength: 5000 }).map((bytes) => Buffer.from(bytes)),
    fc.array(tie("reply"), { maxLength: 4 }),
  ),
}));

describe("the RESP parser", () => {
  it("gives the same replies however the bytes are cut into packets", () => {
    fc.assert(
      fc.property(
        fc.array(reply, { maxLength: 6 }),
        fc.array(fc.nat(3000), { minLength: 1 }),
        (replies, cuts) => {
          const bytes = Buffer.concat(replies.map(encodeReply));
          const parser = new ReplyParser();
          const got: Reply[] = [];
          for (let at = 0, cut = 0; at < bytes.length; cut++) {
            const length = cuts[cut % cuts.length] + 1;
            got.push(...parser.push(bytes.subarray(at, at + length)));
            at += length;
          }
          expect(got).toEqual(replies);
        },
      ),
    );
  });

  it("refuses what is not a reply", () => {
    expect(() => new ReplyParser().push(Buffer.from("HTTP/1.1 400 Bad Request\r\n"))).toThrow(
      /not a Redis reply/,
    );
  });
});

describe("a command", () => {
  it("is an array of bulk strings with lengths in bytes, not characters", () => {
    expect(encodeCommand(["SET", "é", Buffer.from([0, 13, 10])]).toString("latin1")).toBe(
      "*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$3\r\n\x00\r\n\r\n",
    );
  });
});
