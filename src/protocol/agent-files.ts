/** Methods of the agent protocol that have to do with a container's files and volumes. */
import * as z from "zod/mini";
import { MigrationIdSchema, method } from "./agent-method.js";
import { NameSchema, VolumeStateSchema } from "./container.js";
import { LayerPartsSchema, LayerPassSchema, MOST_DIGEST_BYTES } from "./layer.js";

const empty = z.object({});
const bytesOfDigests = z.int().check(z.minimum(0), z.maximum(MOST_DIGEST_BYTES));

export const fileMethods = {
  "volume.list": method("none", empty, z.object({ volumes: z.array(VolumeStateSchema) })),
  /** `MWARP_E_VOLUME_UNKNOWN`; `MWARP_E_BUSY` when a container has it. */
  "volume.remove": method("none", z.object({ name: NameSchema }), empty),
  /**
   * Whether two VMs see one directory: a file with a random name that one makes is seen by the other, and taken away again. `state`
   * is what there is: no such directory, one that cannot be written to, one without the token, one with it.
   */
  "directory.token": method(
    "none",
    z.object({
      directory: z.string(),
      token: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
      act: z.enum(["make", "look", "remove"]),
    }),
    z.object({ state: z.enum(["missing", "read-only", "without", "with"]) }),
  ),

  /**
   * The container's own files: writable layer, named volumes, log. Down: the parts, in order. The first pass is of a running container, and
   * may come to nothing (`parts` null, and why) where it is not worth while; the others are of a frozen one.
   */
  "source.layer": method(
    "down",
    z.object({ migration: MigrationIdSchema, pass: LayerPassSchema }),
    z.object({ parts: z.nullable(LayerPartsSchema), reason: z.nullable(z.string()) }),
  ),
  /**
   * Up: what source.layer gave. Down, of a first pass: what there is by now of the large files, which goes to source.known. After all
   * but the first pass the container's root is mounted. `MWARP_E_NO_MEMORY` when there is no room.
   */
  "destination.layer": method(
    "both",
    z.object({ migration: MigrationIdSchema, pass: LayerPassSchema, parts: LayerPartsSchema }),
    empty,
  ),
  /** Up: what the destination has of large files; only what differs from that is sent once the container stands still. */
  "source.known": method("up", z.object({ migration: MigrationIdSchema, bytes: bytesOfDigests }), empty),
} as const;
