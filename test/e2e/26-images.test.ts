/** A container of an image runs as `docker run` would have it, and as the same user of the same files when it has moved. */
import path from "node:path";
import { expect, it } from "vitest";
import { copyImage, makeLayout } from "../support/images.js";
import { useLab } from "../support/lab.js";
import { until } from "../support/wait.js";
import { Workload } from "../support/workload.js";

const host = useLab({ memory: "512M" });

it("an image from a saved archive runs, moves and goes on as its own user", async () => {
  const { lab } = host;
  const layout = path.join(lab.stateDir, "layout");
  const saved = path.join(lab.stateDir, "saved.tar");
  makeLayout(layout);
  copyImage(layout, `docker-archive:${saved}:web:1.0`);
  const from = ["run", "--vm", "vm-a", "--name", "web", "--image", saved];
  await lab.mwarp.ok([...from, "--tag", "web:1.0", "-e", "SIZE=small"]);
  const web = new Workload(lab, "web", "sh");
  const said = await until(
    "the image's command to have said it all",
    async () => {
      const lines = await web.lines();
      return lines.includes("kept") ? lines : undefined;
    },
    { timeoutMs: 30_000, intervalMs: 300 },
  );
  expect(said[0]).toBe("uid=1234(web) gid=1235(web) groups=77(extra),1235(web)");
  expect(said[1]).toBe("/data");
  expect(said).toEqual(
    expect.arrayContaining(["COLOUR=red", "SIZE=small", "HOME=/home/web", "added", "kept"]),
  );
  expect(said).not.toContain("gone");
  await web.migrate("vm-b");
  const script = "id -u; touch /data/mine; ls -n /data";
  const after = await lab.mwarp.ok(["exec", "web", "--", "sh", "-c", script]);
  expect(after).toMatch(/^1234\n/);
  expect(after).toMatch(/ 1234 +1235 .* mine$/m);
  expect(after).toMatch(/ 4321 +0 .* added$/m);
  await web.remove();
});

it("a command takes the place of the image's, and what is wrong with an image is said", async () => {
  const { lab } = host;
  const layout = path.join(lab.stateDir, "layout");
  const run = ["run", "--vm", "vm-a", "--name", "once", "--image", layout];
  const { exit, error } = await lab.mwarp.refusal([...run, "--tag", "nope"]);
  expect([exit, error.code]).toEqual([2, "MWARP_E_USAGE"]);
  expect(error.message).toContain("it has base, app");
  await lab.mwarp.ok([...run, "--tag", "app", "--", "echo mine"]);
  const once = new Workload(lab, "once", "sh");
  await until("its word", async () => ((await once.lines()).includes("mine") ? true : undefined), {
    timeoutMs: 30_000,
    intervalMs: 300,
  });
  await once.remove();
});
