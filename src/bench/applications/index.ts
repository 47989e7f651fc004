/** Applications that are moved while a client is busy with them. */
export { ApplicationSession } from "./session.js";
