import { describe, expect, it } from "vitest";
import { judgeSharedFile } from "../../../src/agent/migration/shared-files.js";

const plain = "pos:\t0\nflags:\t0100002\nmnt_id:\t40\nino:\t7\n";

describe("an open file of a shared directory", () => {
  it("follows when the other VM can open it, too", () => {
    expect(judgeSharedFile("/share/log", plain)).toBeNull();
    expect(judgeSharedFile("/share/.nfsnotes", plain)).toBeNull();
  });

  it.each([
    ["/share/lock", `${plain}lock:\t1: FLOCK  ADVISORY  WRITE 12 00:2d:7 0 EOF\n`, /locked/],
    ["/share/gone (deleted)", plain, /deleted while it is open/],
    ["/share/.nfs000000000000000700000001", plain, /deleted while it is open/],
  ])("stays when only this VM has what it needs: %s", (target, info, words) => {
    expect(judgeSharedFile(target, info)).toMatch(words);
  });
});
