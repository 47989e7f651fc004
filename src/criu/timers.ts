/** Periodic timers of a dump that would never fire again. */
import { toBinary } from "@bufbuild/protobuf";
import { type TimerFileEntry, TimerFileEntrySchema } from "./gen/timer_pb.js";
import { decodeImage, decodeRecord, encodeImage } from "./image.js";

const FILES = "files.img";
/** fd_types (images/fdinfo.proto). */
const TIMERFD = 17;

/**
 * A timerfd that has expired, and that nobody has read since, waits for the reader before it counts the next interval (fs/timerfd.c,
 * timerfd_read_iter): the kernel says of it that nothing is left until it expires. CRIU takes that over, and sets the timer to
 * nothing, which stops it (criu/pie/restorer.c, timerfd_arm). The longer a container stands still before it is dumped, the more of its
 * timers expire in that time. They get their whole interval; what has expired stays to be read.
 * @returns the image, or the one given when there is nothing to put right
 * @throws MWARP_E_IMAGE when it is no image of files
 */
export function restartTimers(image: Uint8Array): Uint8Array {
  let changed = false;
  const records = decodeImage(FILES, "files", image).map((record) => {
    const entry = decodeRecord(FILES, TimerFileEntrySchema, record);
    if (!stands(entry)) return record;
    changed = true;
    entry.timer.vsec = entry.timer.isec;
    entry.timer.vnsec = entry.timer.insec;
    return toBinary(TimerFileEntrySchema, entry);
  });
  return changed ? encodeImage("files", records) : image;
}

/** Without expirations to be read it has been stopped by its owner. */
function stands(
  entry: TimerFileEntry,
): entry is TimerFileEntry & { timer: NonNullable<TimerFileEntry["timer"]> } {
  const { type, timer } = entry;
  if (type !== TIMERFD || timer === undefined) return false;
  const { ticks, vsec, vnsec, isec, insec } = timer;
  return ticks > 0n && vsec + vnsec === 0n && isec + insec > 0n;
}
