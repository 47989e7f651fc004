/** Where the kernel keeps what it knows of TCP connections: offsets from BTF, by the names of the structures' members. */
import * as z from "zod/mini";
import type { BitField, LayoutRequest, Layouts } from "./layouts.js";

const offset = z.int().check(z.minimum(0));
const place = z.object({ bit: offset, bits: z.int().check(z.minimum(1), z.maximum(8)) });
const record = <K extends string>(names: readonly K[]) =>
  z.object(Object.fromEntries(names.map((name) => [name, offset])) as Record<K, typeof offset>);

const hashinfoMembers = ["ehash", "ehash_mask", "lhash2", "lhash2_mask"] as const;
const commonMembers = [
  "skc_family",
  "skc_state",
  "skc_net",
  "skc_nulls_node",
  "skc_daddr",
  "skc_rcv_saddr",
  "skc_dport",
  "skc_num",
  "skc_v6_daddr",
  "skc_v6_rcv_saddr",
] as const;
const sockMembers = [
  "sk_socket",
  "sk_receive_queue",
  "sk_write_queue",
  "tcp_rtx_queue",
  "sk_shutdown",
] as const;
const requestMembers = ["dl_next", "sk", "mss", "ts_recent", "rsk_ops"] as const;
const optionMembers = ["snd_wscale", "rcv_wscale", "tstamp_ok", "sack_ok", "wscale_ok"] as const;
const tcpRequestMembers = ["snt_isn", "rcv_isn", "ts_off"] as const;
const receivedMembers = ["ts_recent", "mss_clamp"] as const;
const tcpMembers = [
  ...(["rcv_nxt", "copied_seq", "snd_una", "snd_nxt", "write_seq", "snd_wnd", "rcv_wnd"] as const),
  ...(["rcv_wup", "snd_wl1", "max_window", "tsoffset", "rx_opt"] as const),
] as const;
const bufferMembers = ["next", "rbnode", "len", "data_len", "data", "head", "end", "cb"] as const;
const controlMembers = ["seq"] as const;
const sharedMembers = ["nr_frags", "frag_list", "frags"] as const;
const nodeMembers = ["rb_right", "rb_left"] as const;

/** The bits in which a connection's options are kept, of a request and of a connection alike. */
const options = z.object({
  snd_wscale: place,
  rcv_wscale: place,
  tstamp_ok: place,
  sack_ok: place,
  wscale_ok: place,
});

export const TcpLayoutSchema = z.object({
  /** From a task_struct to its network namespace. */
  taskNsproxy: offset,
  nsproxyNet: offset,
  /** Of the pointer to the hash tables in a struct net. */
  netHashinfo: offset,
  hashinfo: record(hashinfoMembers),
  /** Of whole structures. */
  sizes: z.object({ common: offset, tcp: offset, request: offset, buffer: offset, shared: offset }),
  listenBucket: z.object({ bytes: offset, head: offset }),
  /** Of struct sock_common, with which every socket and request begins. */
  common: record(commonMembers),
  sock: record(sockMembers),
  acceptHead: offset,
  request: record(requestMembers),
  requestFamily: offset,
  requestOptions: options,
  /** Set in a request whose peer has answered, where the listener waits for more (TCP_DEFER_ACCEPT). */
  requestAnswered: place,
  tcpRequest: record(tcpRequestMembers),
  tcp: record(tcpMembers),
  /** Of struct tcp_options_received, which lies at `tcp.rx_opt`. */
  received: record(receivedMembers),
  receivedOptions: options,
  /** Timestamps count microseconds where it is set; null in kernels that know none of that. */
  microseconds: z.nullable(z.object({ request: offset, tcp: place })),
  buffer: record(bufferMembers),
  control: record(controlMembers),
  shared: record(sharedMembers),
  fragment: z.object({ bytes: offset, page: offset, len: offset, offset: offset }),
  node: record(nodeMembers),
  /** BTF id of bpf_sk_assign_tcp_reqsk, by which a connection is put into a listener's queue; null before Linux 6.8. */
  admit: z.nullable(z.int()),
});
export type TcpLayout = z.infer<typeof TcpLayoutSchema>;

/** Members that are read of each structure; a kernel has either of the two for parts of buffers. */
const members = {
  task_struct: ["nsproxy"],
  nsproxy: ["net_ns"],
  net: ["ipv4"],
  netns_ipv4: ["tcp_death_row"],
  inet_timewait_death_row: ["hashinfo"],
  inet_hashinfo: hashinfoMembers,
  inet_listen_hashbucket: ["nulls_head"],
  sock_common: commonMembers,
  sock: sockMembers,
  inet_connection_sock: ["icsk_accept_queue"],
  request_sock_queue: ["rskq_accept_head"],
  request_sock: requestMembers,
  request_sock_ops: ["family"],
  inet_request_sock: [...optionMembers, "acked"],
  tcp_request_sock: tcpRequestMembers,
  tcp_options_received: [...receivedMembers, ...optionMembers],
  tcp_sock: tcpMembers,
  sk_buff: bufferMembers,
  tcp_skb_cb: controlMembers,
  skb_shared_info: sharedMembers,
  rb_node: nodeMembers,
  skb_frag: ["netmem", "len", "offset"],
  bio_vec: ["bv_page", "bv_len", "bv_offset"],
} as const;

/** What `tcpLayout` wants to be asked of the kernel's types. */
export const tcpRequests: readonly LayoutRequest[] = [
  ...Object.entries(members).map(([name, list]) => `${name}:${list.join(",")}` as const),
  // Since Linux 6.7; by themselves, because whatever is asked together must be there together.
  "tcp_request_sock:req_usec_ts",
  "tcp_sock:tcp_usec_ts",
  "bpf_sk_assign_tcp_reqsk()",
];

/** @throws MWARP_E_UNSUPPORTED when the kernel's structures are others */
export function tcpLayout(layouts: Layouts): TcpLayout {
  const at = (name: string, member: string): number => layouts.offset(name, member);
  const offsets = <K extends string>(name: string, list: readonly K[]): Record<K, number> =>
    Object.fromEntries(list.map((member) => [member, at(name, member)])) as Record<K, number>;
  const options = (name: string) =>
    Object.fromEntries(optionMembers.map((member) => [member, layouts.bitField(name, member)])) as Record<
      (typeof optionMembers)[number],
      BitField
    >;
  const accept = at("inet_connection_sock", "icsk_accept_queue");
  return {
    taskNsproxy: at("task_struct", "nsproxy"),
    nsproxyNet: at("nsproxy", "net_ns"),
    netHashinfo:
      at("net", "ipv4") + at("netns_ipv4", "tcp_death_row") + at("inet_timewait_death_row", "hashinfo"),
    hashinfo: offsets("inet_hashinfo", hashinfoMembers),
    sizes: {
      common: layouts.bytes("sock_common"),
      tcp: layouts.bytes("tcp_sock"),
      request: layouts.bytes("tcp_request_sock"),
      buffer: layouts.bytes("sk_buff"),
      shared: layouts.bytes("skb_shared_info"),
    },
    listenBucket: {
      bytes: layouts.bytes("inet_listen_hashbucket"),
      head: at("inet_listen_hashbucket", "nulls_head"),
    },
    common: offsets("sock_common", commonMembers),
    sock: offsets("sock", sockMembers),
    acceptHead: accept + at("request_sock_queue", "rskq_accept_head"),
    request: offsets("request_sock", requestMembers),
    requestFamily: at("request_sock_ops", "family"),
    requestOptions: options("inet_request_sock"),
    requestAnswered: layouts.bitField("inet_request_sock", "acked"),
    tcpRequest: offsets("tcp_request_sock", tcpRequestMembers),
    tcp: offsets("tcp_sock", tcpMembers),
    received: offsets("tcp_options_received", receivedMembers),
    receivedOptions: options("tcp_options_received"),
    microseconds: layouts.has("tcp_request_sock", "req_usec_ts")
      ? {
          request: layouts.offset("tcp_request_sock", "req_usec_ts"),
          tcp: layouts.bitField("tcp_sock", "tcp_usec_ts"),
        }
      : null,
    buffer: offsets("sk_buff", bufferMembers),
    control: offsets("tcp_skb_cb", controlMembers),
    shared: offsets("skb_shared_info", sharedMembers),
    fragment: fragment(layouts),
    node: offsets("rb_node", nodeMembers),
    admit: layouts.functionId("bpf_sk_assign_tcp_reqsk"),
  };
}

/** A part of a buffer in a page: struct skb_frag since Linux 6.9, struct bio_vec before. */
function fragment(layouts: Layouts): TcpLayout["fragment"] {
  const name = layouts.has("skb_frag", "netmem") ? "skb_frag" : "bio_vec";
  const [page, len, offset] = members[name].map((member) => layouts.offset(name, member)) as [
    number,
    number,
    number,
  ];
  return { bytes: layouts.bytes(name), page, len, offset };
}
