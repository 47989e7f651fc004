/** Applications that are moved while a client is busy with them. */
import type { MigrationMethod } from "../../protocol/migration.js";
import type { ApplicationRecord } from "../records.js";
import { ApplicationSession, type SessionOptions } from "./session.js";

export { ApplicationSession, type SessionOptions } from "./session.js";

/** One measurement with a container of its own. */
export async function measureApplication(
  options: SessionOptions,
  method: MigrationMethod,
  round: number,
): Promise<ApplicationRecord> {
  await using session = await ApplicationSession.start(options);
  return await session.measure(method, round);
}
