/** An agent whose calls are accounted for: as long as one is under way, the migration waits for a guest and not for the host. */
import type { MigrationClock } from "./clock.js";
import type { AgentCaller } from "./ports.js";

export function timedAgent(agent: AgentCaller, clock: MigrationClock): AgentCaller {
  return {
    call: (method, params, options) =>
      clock.during(method === "destination.populate" ? "populate" : "agents", () =>
        agent.call(method, params, options),
      ),
    get channelBytes() {
      return agent.channelBytes;
    },
  };
}
