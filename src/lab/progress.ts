/** How the lab tells what it is doing. */

type LabStep = "packages" | "image" | "probe" | "network" | "memory" | "vm" | "down";

export interface LabProgress {
  readonly step: LabStep;
  readonly message: string;
}

type OnProgress = (progress: LabProgress) => void;

export interface LabCallOptions {
  signal?: AbortSignal;
  onProgress?: OnProgress;
}
