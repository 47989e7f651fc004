/**
 * Whether the page-table roots that an agent named are still those of the container's tasks. A frozen task can be killed
 * (by the OOM killer, by root), and its page tables be freed and used for something else before the VM is paused: asked
 * inside the stun, of the guest kernel's own task_struct. exit_mm() clears task->mm before the tables go
 * (kernel/exit.c), and a task_struct used anew has another pid or another mm.
 */
import { MwarpError } from "../errors.js";
import { type KernelMemory, kernelAddress } from "./kernel-va.js";
import type { AddressSpaceRoot, GuestView } from "./physical-memory.js";

/** @throws MWARP_E_WARP naming the first task that is no longer what the agent said */
export function confirmRoots(kernel: KernelMemory, guest: GuestView): void {
  for (const root of guest.roots) confirmRoot(kernel, guest, root);
}

function confirmRoot(kernel: KernelMemory, guest: GuestView, root: AddressSpaceRoot): void {
  const { levels, taskStruct } = guest;
  const word = (address: bigint, bytes: 4 | 8): bigint => {
    const into = Buffer.alloc(8);
    if (!kernel.read(kernelAddress(address, levels), into.subarray(0, bytes)))
      throw changed(root, "its task_struct is not mapped");
    return into.readBigUInt64LE(0);
  };
  const task = decimal(root.taskAddress, root);
  if (word(task + BigInt(taskStruct.pidOffset), 4) !== BigInt(root.pid))
    throw changed(root, `it is not pid ${root.pid} of its VM any more`);
  const mm = word(task + BigInt(taskStruct.mmOffset), 8);
  if (mm === 0n) throw changed(root, "it has ended");
  const pgd = word(mm + BigInt(taskStruct.mmPgdOffset), 8);
  if (pgd - decimal(guest.directMapBase, root) !== BigInt(root.rootGpa))
    throw changed(root, "its page tables are not where they were");
}

function decimal(text: string, root: AddressSpaceRoot): bigint {
  if (/^\d{1,20}$/.test(text)) return BigInt(text);
  throw changed(root, `"${text}" is no kernel address`);
}

const changed = ({ nsPid }: AddressSpaceRoot, why: string): MwarpError =>
  new MwarpError("MWARP_E_WARP", `task ${nsPid} of the container has changed since it was frozen: ${why}`);
