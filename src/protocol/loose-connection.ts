/**
 * TCP connections in a container's network namespace that no task has a descriptor of, so that CRIU takes none of them along: those
 * that wait to be accepted, those whose handshake is not done, and those that the program has closed, but whose peer has not got all.
 * The source's agent writes them down beside the images; the destination's agent makes them anew.
 */
import * as z from "zod/mini";
import { AddressSchema, PortSchema } from "./connection.js";

/** Among the images: a JSON array of `LooseConnectionSchema`, and the bytes of all of them in that order. */
export const LOOSE_FILE = "loose-connections.json";
export const LOOSE_DATA = "loose-connections.data";
/** Among the images: datagrams that wait to be read, as the agents' helpers have them. */
export const LOOSE_DATAGRAMS = "loose-datagrams.data";
/** Of more than these, or of more bytes, nobody keeps a backlog. */
export const MOST_LOOSE = 65_536;
export const MOST_LOOSE_BYTES = 48 * 1024 * 1024;

const sequence = z.int().check(z.minimum(0), z.maximum(0xffff_ffff));
const count = z.int().check(z.minimum(0), z.maximum(MOST_LOOSE_BYTES));
const scale = z.int().check(z.minimum(0), z.maximum(14));

const LooseConnectionSchema = z.object({
  /** `answered`: its listener waits for the first words of a peer that has answered (TCP_DEFER_ACCEPT). */
  kind: z.enum(["waiting", "opening", "answered", "closed"]),
  /** As on the wire: an IPv4 connection of an IPv6 socket is one of IPv4. */
  address: AddressSchema,
  port: PortSchema,
  peer: AddressSchema,
  peerPort: PortSchema,
  /** Of the first byte of `received`, and of `outgoing`. */
  fromPeer: sequence,
  toPeer: sequence,
  /** What both have agreed on. */
  mss: z.int().check(z.minimum(1), z.maximum(65_535)),
  scales: z.nullable(z.object({ send: scale, receive: scale })),
  sack: z.boolean(),
  /** The timestamp that we would send now, and the peer's last. */
  timestamps: z.nullable(z.object({ ours: sequence, peers: sequence })),
  window: z.object({
    /** How much the peer takes, and the most it ever took. */
    send: sequence,
    most: sequence,
    /** Sequence number of the segment that said so. */
    updated: sequence,
    /** What the peer was told, and when. */
    receive: sequence,
    told: sequence,
  }),
  /** Bytes that have come and that nobody has read. */
  received: count,
  /** Whether the peer will send no more. */
  ended: z.boolean(),
  /** Bytes that the peer has not confirmed; of those, what was not even sent. */
  outgoing: count,
  unsent: count,
});
export type LooseConnection = z.infer<typeof LooseConnectionSchema>;

export const LooseConnectionsSchema = z.array(LooseConnectionSchema).check(z.maxLength(MOST_LOOSE));
