/** TCP connections of a container, whose peers are asked to send again when it has moved. */
import * as z from "zod/mini";

/** What they ask for is a courtesy: of more than these the rest waits for its own timers. */
export const MOST_CONNECTIONS = 4096;

const byte = z.int().check(z.minimum(0), z.maximum(255));
/** Bytes in network order. */
export const AddressSchema = z.union([z.array(byte).check(z.length(4)), z.array(byte).check(z.length(16))]);
export const PortSchema = z.int().check(z.minimum(1), z.maximum(65_535));

export const ConnectionSchema = z
  .object({
    /** 4 or 16 bytes, the same for both ends. */
    address: AddressSchema,
    port: PortSchema,
    peer: AddressSchema,
    peerPort: PortSchema,
    /** Sequence number of the first byte that the peer has not been told to have arrived. */
    nextFromPeer: z.int().check(z.minimum(0), z.maximum(0xffff_ffff)),
  })
  .check(z.refine(({ address, peer }) => address.length === peer.length));
export type Connection = z.infer<typeof ConnectionSchema>;
