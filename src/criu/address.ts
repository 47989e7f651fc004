/** Addresses of a task as CRIU's images hold them. */
import { PAGE_SHIFT } from "../units.js";
import { imageError } from "./image.js";

/** User space with five-level page tables: 56 bits. */
const MAX_USER_ADDRESS = 1n << 56n;
/** The page after the last one of user space. */
export const END_PAGE = Number(MAX_USER_ADDRESS >> BigInt(PAGE_SHIFT));

/** The virtual page number of a page-aligned user address; @throws MWARP_E_IMAGE. */
export function pageOfAddress(name: string, address: bigint): number {
  if (address < 0n || address > MAX_USER_ADDRESS || (address & 0xfffn) !== 0n) {
    throw imageError(name, `0x${address.toString(16)} is not the address of a user page`);
  }
  return Number(address >> BigInt(PAGE_SHIFT));
}
