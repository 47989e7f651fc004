export { connectAgent, GuestAgent } from "./agent.js";
export { AgentLink } from "./link.js";
