/**
 * What an exchange by mwarp.ko costs against copying the same bytes and against remapping them, in one run in a VM of its own:
 * `make measure-kmod`. The VM is emulated: only the ratios say something, and of those only which side of a bar they are on.
 */
import * as z from "zod/mini";
import { buildModule } from "../support/kernel-vm.js";

const LIMIT_MS = 600_000;
const WORD = "bench ";
/** A line of `kmod-test MODULE bench`; times are microseconds for a page of 4 KiB. */
const LayoutSchema = z.object({
  layout: z.string(),
  pages: z.number(),
  exchanged: z.number(),
  exchange_us_per_page: z.number(),
  touch_us_per_page: z.number(),
  copy_us_per_page: z.number(),
  remap_us_per_page: z.number(),
  remap_touch_us_per_page: z.number(),
});

const module = await buildModule("linux-image-6.12-cloud-amd64");
const said = await module.test("bench", LIMIT_MS);
const ratio = (of: number, to: number): string => (of / to).toFixed(3).padStart(12);
process.stdout.write(`kernel ${module.release}; "touched": with the first access to each page afterwards\n`);
process.stdout.write("layout            exchanged  kernel/copy  kernel/remap  touched/copy  touched/remap\n");
for (const line of said.split(/\r?\n/).filter((text) => text.startsWith(WORD))) {
  const one = LayoutSchema.parse(JSON.parse(line.slice(WORD.length)));
  const touched = one.exchange_us_per_page + one.touch_us_per_page;
  const remapped = one.remap_us_per_page + one.remap_touch_us_per_page;
  const ratios = [
    ratio(one.exchange_us_per_page, one.copy_us_per_page),
    ratio(one.exchange_us_per_page, one.remap_us_per_page),
    ratio(touched, one.copy_us_per_page),
    ratio(touched, remapped),
  ];
  const share = `${((100 * one.exchanged) / one.pages).toFixed(0)} %`;
  process.stdout.write(`${one.layout.padEnd(18)}${share.padStart(9)} ${ratios.join(" ")}\n`);
}
