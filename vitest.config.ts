import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const long = process.env.MWARP_TEST_LONG === "1";
/** Their guests never rest: beside them, and beside each other, everything takes twice as long. */
const alone = ["test/e2e/11-adversary.test.ts"];
const seconds = (count: number): number => count * 1000;

/** In the order of their names: the end-to-end tests go from what must work first to what builds on it. */
class ByName extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return [...files].sort((a, b) => a.moduleId.localeCompare(b.moduleId));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: ByName },
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts"],
          testTimeout: seconds(long ? 3600 : 10),
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          exclude: alone,
          // In a migration one VM is at work at a time for the most part: one file alone leaves a third of two processors idle. In
          // their long form tests load the VMs for as long as it takes, and each has the machine to itself.
          maxWorkers: long ? 1 : 2,
          testTimeout: seconds(240),
          hookTimeout: seconds(300),
        },
      },
      {
        test: {
          name: "zdtm",
          include: ["test/zdtm/**/*.test.ts"],
          testTimeout: seconds(48 * 3600),
          hookTimeout: seconds(1800),
        },
      },
      {
        test: {
          name: "e2e-alone",
          include: alone,
          testTimeout: seconds(240),
          hookTimeout: seconds(300),
        },
      },
    ],
  },
});
