/** The lab: the embedded default host, two or more VMs on a bridge in a network namespace of their own. */
export { ClientProcess, type Progress } from "./client-process.js";
export { labDown } from "./down.js";
export { knownKvmVerdict } from "./kvm.js";
export { insideNamespace } from "./network.js";
export type { LabOptions } from "./options.js";
export { missingPackages } from "./packages.js";
export type { LabProgress } from "./progress.js";
export { type LabStatus, labStatus } from "./status.js";
export { labUp } from "./up.js";
