import { describe, expect, it } from "vitest";
import { judgeMounts } from "../../../src/agent/migration/container-mounts.js";

const mountinfo = `600 500 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
601 600 0:51 / /proc rw,nosuid - proc proc rw
602 600 0:52 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
603 602 0:53 / /dev/pts rw - devpts devpts rw,gid=5
604 601 0:5 /null /proc/kcore rw,nosuid master:3 - devtmpfs udev rw
605 600 0:24 /containers/db/volumes/store /data rw,relatime - tmpfs mwarp rw
606 600 0:60 / /share rw,relatime shared:9 master:2 - nfs4 10.0.0.1:/ rw,vers=4.2
607 600 254:0 /srv /in\\040a\\040folder ro - ext4 /dev/vda rw
`;

describe("a container's mounts", () => {
  it("move where CRIU makes them, or where they are a volume's; the others are named by place and kind", () => {
    expect(judgeMounts(mountinfo, { volumes: [] })).toEqual([
      "mount at /share: nfs4",
      "mount at /in a folder: ext4",
    ]);
    const share = { kind: "shared", directory: "/mnt/x", destination: "/share", readOnly: false } as const;
    expect(judgeMounts(mountinfo, { volumes: [share] })).toEqual(["mount at /in a folder: ext4"]);
  });
});
