/**
 * A daemon that died inside the stun leaves two paused VMs whose frames may be exchanged although the commit was never
 * journaled. Before either VM runs again every frame goes back (I2).
 */
import { existsSync, readFileSync } from "node:fs";
import { MwarpError } from "../errors.js";
import type { BackingFile, BackingReader } from "../vm/backing.js";
import type { MemoryLayout, VmEndpoint } from "../vm/types.js";
import type { VmmLibrary } from "../vm/vmm-library.js";
import { decodeExchange } from "../warp/backends/exchange-record.js";
import { type OpenFiles, openFiles, putBack } from "../warp/backends/put-back.js";
import { dropExchangeRecord, exchangeFile } from "./journal.js";
import { VmSession } from "./vm-session.js";

const PAUSE_TIMEOUT_MS = 20_000;

/** A VM that took part in an exchange. */
export interface ExchangedVm {
  readonly endpoint: VmEndpoint;
  readonly layout: MemoryLayout;
}

/**
 * Leaves the VMs paused; a VM that has ended (null) has no memory to put back.
 *
 * What the dead daemon had asked of a VM's library may still lie in the library's socket: opening a session takes more than
 * one round trip with the library, which serves its clients in turn, so the maps read after it are final.
 * @throws MWARP_E_NEEDS_RECOVERY when a VM's memory could not be brought back
 */
export async function takeBackExchange(
  journalPath: string,
  source: ExchangedVm | null,
  destination: ExchangedVm | null,
  signal: AbortSignal,
): Promise<void> {
  const file = exchangeFile(journalPath);
  // Put back, and forgotten, before.
  if (!existsSync(file)) return;
  const record = decodeExchange(readFileSync(file));
  const sessions: VmSession[] = [];
  const open = async (vm: ExchangedVm | null): Promise<VmSession | null> => {
    if (vm === null) return null;
    const session = await VmSession.open(vm.endpoint, vm.layout, true, signal);
    sessions.push(session);
    return session;
  };
  try {
    const from = await open(source);
    const to = await open(destination);
    for (const session of sessions) await session.keepPaused(PAUSE_TIMEOUT_MS);
    const files = sessions.flatMap(({ backing }) => backing.read().files);
    const sides = [
      [from, "source"],
      [to, "destination"],
    ] as const;
    const ready: ReadySide[] = [];
    for (const [session, side] of sides)
      if (session !== null) ready.push(await readySide(session, side, files));
    for (const { library, backing, side, handles } of ready)
      await putBack(record, record[side], { library, backing }, handles);
    // Both VMs still stand still: from here on frames may be exchanged anew.
    dropExchangeRecord(journalPath);
  } finally {
    for (const session of sessions) session.close();
  }
}

interface ReadySide {
  readonly library: VmmLibrary;
  readonly backing: BackingReader;
  readonly side: "source" | "destination";
  readonly handles: OpenFiles;
}

async function readySide(
  { endpoint, library, backing }: VmSession,
  side: "source" | "destination",
  files: readonly BackingFile[],
): Promise<ReadySide> {
  if (library === null)
    throw new MwarpError("MWARP_E_NEEDS_RECOVERY", `${endpoint.name} has no memory library any more`);
  return { library, backing, side, handles: await openFiles(library, files) };
}
