import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

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
          testTimeout: seconds(process.env.MWARP_TEST_LONG === "1" ? 3600 : 10),
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          // VMs share two processors: one file at a time.
          fileParallelism: false,
          maxWorkers: 1,
          testTimeout: seconds(180),
          hookTimeout: seconds(240),
        },
      },
    ],
  },
});
