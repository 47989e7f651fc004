/** Makes bundles of nothing. */
import path from "node:path";
import type { ContainerBuilder, SpecFacts } from "../../../src/container/builder.js";
import type { ContainerSpec } from "../../../src/protocol/container.js";

export class FakeBuilder implements ContainerBuilder {
  constructor(private readonly directory: string) {}

  async archive(): Promise<{ digest: string; file: string; bytes: number }> {
    const file = path.join(this.directory, "package.json");
    return { digest: "cd".repeat(32), file, bytes: 1 };
  }

  unpack(): Promise<never> {
    return Promise.reject(new Error("this builder knows no images"));
  }

  spec(input: SpecFacts): ContainerSpec {
    const {
      name,
      id,
      rootfs,
      network,
      hostname,
      runtime,
      createdAt,
      restart,
      health: _health,
      ...oci
    } = input;
    return { name, id, rootfs, network, hostname, runtime, oci, createdAt, restart, health: null };
  }

  network(taken: readonly { ipv4: string }[], { ipv4 }: { ipv4: string | null }): ContainerSpec["network"] {
    const used = new Set(taken.map((item) => item.ipv4));
    let host = 100;
    while (used.has(`10.77.0.${host}`)) host++;
    return {
      mac: "02:00:00:00:00:99",
      ipv4: ipv4 ?? `10.77.0.${host}`,
      prefixLength: 24,
      gateway: null,
      ipv6: null,
    };
  }
}
