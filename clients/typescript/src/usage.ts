import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import * as checks from "./checks.js";
import type { TenantAuthError } from "./error.js";
import {
  QueryUsageRequestSchema,
  RecordUsageRequestSchema,
  UsageEventSchema,
  UsageService,
  UsageBucket as WireBucket,
} from "./gen/tenantauth/v1/usage_pb.js";
import { pageSize, pages } from "./pages.js";
import { printable } from "./printable.js";
import { errorFromItem } from "./rpc/details.js";
import type { CallOptions, RpcClient } from "./rpc/rpc-client.js";
import { int64, text, timestamp } from "./wire.js";

/** One usage event. */
export interface UsageEvent {
  /** Id of the tenant that consumed something. */
  readonly tenantId: string;
  /** Name of the metric in lower case, such as `api.calls`. */
  readonly metric: string;
  /** The quantity, in the unit of the metric; a whole number, not negative. */
  readonly quantity: number | bigint;
  /** Time of the event; default: the time of arrival. */
  readonly occurredAt?: Date;
}

/** Options of `record`. */
export interface RecordUsage extends CallOptions {
  /** Idempotency key: after a failure, send the same id with the same events. Default: a random id. */
  readonly requestId?: string;
}

/** An event that is rejected for good. */
export interface RejectedUsage {
  /** Index of the event in the request, starting at 0. */
  readonly index: number;
  /** The reason. */
  readonly error: TenantAuthError;
}

/** The result of recording events. */
export interface UsageRecorded {
  /** Number of events that are counted, by this call or by an earlier one with the same request id. */
  readonly accepted: number;
  /** Events that are rejected for good. The other events are counted. */
  readonly rejected: readonly RejectedUsage[];
  /** Whether an earlier call with the same request id had already recorded the events. */
  readonly alreadyRecorded: boolean;
}

/** The width of a time bucket, in UTC. */
export type UsageBucket = "HOUR" | "DAY" | "MONTH";

/** Selects the usage to sum. */
export interface QueryUsage extends CallOptions {
  /** Id of the tenant. */
  readonly tenantId: string;
  /** Name of one metric; default: all metrics. */
  readonly metric?: string;
  /** Start of the time range, inclusive. */
  readonly start: Date;
  /** End of the time range, exclusive. */
  readonly end: Date;
  /** Width of the time buckets; default: days. */
  readonly bucket?: UsageBucket;
  /** Page size; default: chosen by the service. */
  readonly pageSize?: number;
}

/** The sum of one metric over one time bucket. */
export interface UsageSum {
  /** Name of the metric. */
  readonly metric: string;
  /** Start of the bucket. */
  readonly bucketStart: Date;
  /** The sum; may exceed the range in which a `number` is exact. */
  readonly quantity: bigint;
}

const BUCKETS: Readonly<Record<UsageBucket, WireBucket>> = {
  HOUR: WireBucket.HOUR,
  DAY: WireBucket.DAY,
  MONTH: WireBucket.MONTH,
};

const QUERY_OPTIONS = [
  "tenantId",
  "metric",
  "start",
  "end",
  "bucket",
  "pageSize",
  "timeoutMs",
  "signal",
] as const satisfies (keyof QueryUsage)[];

/** Records and reports usage. To record events one by one, use a `UsageRecorder`. */
export class Usage {
  readonly #rpc: RpcClient;

  constructor(rpc: RpcClient) {
    this.#rpc = rpc;
  }

  /** Throws the error of a closed client. */
  assertOpen(): void {
    this.#rpc.assertOpen();
  }

  /** Records 1 to 500 events. When the promise resolves, they are committed or rejected. */
  async record(events: readonly UsageEvent[], options: RecordUsage = {}): Promise<UsageRecorded> {
    const { requestId = randomUUID() } = checks.options("options", options, [
      "requestId",
      "timeoutMs",
      "signal",
    ]);
    if (!Array.isArray(events)) throw new TypeError("events must be a list");
    const request = create(RecordUsageRequestSchema, {
      requestId: text("requestId", requestId),
      events: events.map(eventToWire),
    });
    const reply = await this.#rpc.call(UsageService.method.recordUsage, request, options);
    const rejected = reply.rejected.flatMap(({ index, error }) => {
      return error === undefined ? [] : [{ index, error: errorFromItem(error) }];
    });
    return { accepted: reply.accepted, rejected, alreadyRecorded: reply.alreadyRecorded };
  }

  /** Iterates over a tenant's sums by time, then by metric, page by page. Empty buckets are omitted. */
  query(options: QueryUsage): AsyncIterable<UsageSum> {
    const { bucket = "DAY" } = checks.options("options", options, QUERY_OPTIONS);
    if (!Object.hasOwn(BUCKETS, bucket)) throw new TypeError('bucket must be "HOUR", "DAY" or "MONTH"');
    const asked = {
      tenantId: text("tenantId", options.tenantId),
      metric: text("metric", options.metric ?? ""),
      startTime: timestamp("start", options.start),
      endTime: timestamp("end", options.end),
      bucket: BUCKETS[bucket],
      pageSize: pageSize(options),
    };
    return pages(async (pageToken) => {
      const request = create(QueryUsageRequestSchema, { ...asked, pageToken });
      const page = await this.#rpc.call(UsageService.method.queryUsage, request, options);
      const items = page.sums.map(({ metric, bucketStart, quantity }) => {
        const start = bucketStart ? timestampDate(bucketStart) : new Date(0);
        return printable({ metric, bucketStart: start, quantity });
      });
      return { items, nextPageToken: page.nextPageToken };
    });
  }
}

function eventToWire(event: UsageEvent): ReturnType<typeof create<typeof UsageEventSchema>> {
  return create(UsageEventSchema, {
    tenantId: text("tenantId", event.tenantId),
    metric: text("metric", event.metric),
    quantity: int64("quantity", event.quantity),
    ...(event.occurredAt === undefined ? {} : { occurredAt: timestamp("occurredAt", event.occurredAt) }),
  });
}
