/** The JSON documents of the command line, as far as tests read them. */
import * as z from "zod/mini";
import { errorCodes } from "../../src/errors.js";
import { ContainerStatusSchema } from "../../src/protocol/container.js";

/** `run --json`, and one entry of `ps --json`. */
export const ContainerEntrySchema = z.object({
  name: z.string(),
  id: z.string(),
  vm: z.string(),
  status: ContainerStatusSchema,
  pid: z.nullable(z.int()),
  exit_code: z.nullable(z.int()),
  migration: z.nullable(z.string()),
  memory_bytes: z.int(),
  ipv4: z.string(),
  ipv6: z.nullable(z.string()),
  mac: z.string(),
  runtime: z.string(),
});

export const PsSchema = z.object({ containers: z.array(ContainerEntrySchema) });

export const LabStatusSchema = z.object({
  state: z.string(),
  namespace: z.nullable(z.string()),
  rootfs: z.record(z.string(), z.string()),
});
export type LabStatus = z.infer<typeof LabStatusSchema>;

/** `volume ls --json`. */
export const VolumesSchema = z.object({
  volumes: z.array(z.object({ name: z.string(), vm: z.string(), container: z.nullable(z.string()) })),
});

export const DaemonStatusSchema = z.object({ pid: z.int() });

/** What every failure says with --json, by itself or in a migration's report. */
export const FailureSchema = z.object({
  error: z.object({
    code: z.enum(errorCodes),
    message: z.string(),
    hint: z.string(),
    details: z.array(z.string()),
  }),
});
export type Failure = z.infer<typeof FailureSchema>["error"];
