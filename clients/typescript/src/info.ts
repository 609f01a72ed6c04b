import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type GetServerInfoResponse, DatabaseKind as WireKind } from "./gen/tenantauth/v1/info_pb.js";
import { printable } from "./printable.js";
import { milliseconds } from "./wire.js";

/** Which kind of database the process decides against. */
export type DatabaseKind = "EMBEDDED" | "REMOTE" | "UNRECOGNIZED";

/** The answering process. */
export interface ServerInfo {
  /** Semantic version of the service. */
  readonly version: string;
  /** Git commit it was built from; empty when built outside a checkout. */
  readonly commit: string;
  /** Whether tracked files differed from that commit. */
  readonly dirty: boolean;
  /** Git branch it was built from; empty when unknown. */
  readonly branch: string;
  /** What it decides against. */
  readonly database: DatabaseKind;
  /** Highest change-log sequence number it has seen; 0 before its first read. */
  readonly revision: bigint;
  /** Time since it started to serve, in milliseconds. */
  readonly uptimeMs: number;
  /** Its own clock. */
  readonly now: Date | undefined;
  /** The schema version it knows. */
  readonly schemaVersion: number;
}

const KINDS: Readonly<Record<number, DatabaseKind>> = {
  [WireKind.EMBEDDED]: "EMBEDDED",
  [WireKind.REMOTE]: "REMOTE",
};

export function serverInfoFromWire(wire: GetServerInfoResponse): ServerInfo {
  return printable({
    version: wire.version,
    commit: wire.commit,
    dirty: wire.dirty,
    branch: wire.branch,
    database: KINDS[wire.databaseKind] ?? "UNRECOGNIZED",
    revision: wire.revision,
    uptimeMs: milliseconds(wire.uptime),
    now: wire.now === undefined ? undefined : timestampDate(wire.now),
    schemaVersion: wire.schemaVersion,
  });
}
