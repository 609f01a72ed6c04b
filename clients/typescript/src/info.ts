import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type GetServerInfoResponse, DatabaseKind as WireKind } from "./gen/tenantauth/v1/info_pb.js";
import { printable } from "./printable.js";
import { milliseconds } from "./wire.js";

/** The kind of database that the replica uses. */
export type DatabaseKind = "EMBEDDED" | "REMOTE" | "UNRECOGNIZED";

/** Describes the replica that responds. */
export interface ServerInfo {
  /** Semantic version of the server. */
  readonly version: string;
  /** Git commit of the build; empty if the server was built outside a Git checkout. */
  readonly commit: string;
  /** Whether tracked files differed from that commit at build time. */
  readonly dirty: boolean;
  /** Git branch of the build; empty if unknown. */
  readonly branch: string;
  /** The kind of database. */
  readonly database: DatabaseKind;
  /** The highest change-log sequence number that the replica has read; 0 before its first read. */
  readonly revision: bigint;
  /** Time since the replica started to serve, in milliseconds. */
  readonly uptimeMs: number;
  /** Current time by the replica's clock. */
  readonly now: Date | undefined;
  /** The database schema version that the build supports. */
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
