/** As much of a vhost-user back end as QEMU needs in order to have a device: it says that it can do nothing. */
import { createServer, type Socket } from "node:net";

const HEADER_BYTES = 12;
/** GET_FEATURES, GET_VRING_BASE, GET_PROTOCOL_FEATURES and GET_QUEUE_NUM want a number back; the rest want nothing. */
const ASKING = new Set([1, 11, 15, 17]);
/** Version 1, and that it is a reply. */
const REPLY_FLAGS = 5;

export async function vhostUserBackend(path: string): Promise<AsyncDisposable> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let received = Buffer.alloc(0);
    socket.on("error", () => socket.destroy());
    socket.on("data", (data: Buffer) => {
      received = Buffer.concat([received, data]);
      while (received.length >= HEADER_BYTES) {
        const request = received.readUInt32LE(0);
        const end = HEADER_BYTES + received.readUInt32LE(8);
        if (received.length < end) return;
        received = received.subarray(end);
        if (ASKING.has(request)) socket.write(reply(request));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function reply(request: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + 8);
  bytes.writeUInt32LE(request, 0);
  bytes.writeUInt32LE(REPLY_FLAGS, 4);
  bytes.writeUInt32LE(8, 8);
  return bytes;
}
