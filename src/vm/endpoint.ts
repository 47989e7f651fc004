/** The schema of a VM endpoint: what lab.json and vms.json hold, and what `mwarp vm attach` must give. */
import * as z from "zod/mini";
import { NameSchema } from "../protocol/container.js";
import type { VmEndpoint } from "./types.js";

const socketPath = z.string().check(z.startsWith("/"), z.maxLength(107));

/** Its type says that it makes what the interface promises. */
export const VmEndpointSchema: z.ZodMiniType<VmEndpoint> = z.object({
  name: NameSchema,
  pid: z.int().check(z.minimum(2)),
  startTime: z.string().check(z.regex(/^\d+$/)),
  qmpSocket: socketPath,
  agentSocket: socketPath,
  vmmSocket: z.nullable(socketPath),
  address: z.nullable(z.string().check(z.regex(/^\d{1,3}(\.\d{1,3}){3}$/))),
});
