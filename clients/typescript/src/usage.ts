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
import type { Caller, CallOptions } from "./rpc/caller.js";
import { errorFromItem } from "./rpc/details.js";
import { int64, text, timestamp } from "./wire.js";

/** One thing that a tenant consumed. */
export interface UsageEvent {
  /** Who consumed it. */
  readonly tenantId: string;
  /** What was consumed: a lower-case name such as `api.calls`. */
  readonly metric: string;
  /** How much, in the metric's own unit; a whole number, not negative. */
  readonly quantity: number | bigint;
  /** When; absent means on arrival. */
  readonly occurredAt?: Date;
}

/** Events to record in one call. */
export interface RecordUsage extends CallOptions {
  /** Unique to this set of events: resend the same id with the same events after a failure. Made up unless set. */
  readonly requestId?: string;
}

/** An event that can never be counted. */
export interface RejectedUsage {
  /** Its position in the request, from 0. */
  readonly index: number;
  /** Why. */
  readonly error: TenantAuthError;
}

/** The outcome of a recording. */
export interface UsageRecorded {
  /** How many events are counted now, by this call or by an earlier one with the same request id. */
  readonly accepted: number;
  /** Events that can never be counted. The others are counted all the same. */
  readonly rejected: readonly RejectedUsage[];
  /** Whether an earlier call with the same request id had recorded them already. */
  readonly alreadyRecorded: boolean;
}

/** The width of a bucket, in UTC. */
export type UsageBucket = "HOUR" | "DAY" | "MONTH";

/** What to sum. */
export interface QueryUsage extends CallOptions {
  /** The tenant. */
  readonly tenantId: string;
  /** One metric; all unless set. */
  readonly metric?: string;
  /** First moment, inclusive. */
  readonly start: Date;
  /** Last moment, exclusive. */
  readonly end: Date;
  /** The width of a bucket; days unless set. */
  readonly bucket?: UsageBucket;
  /** How many sums to fetch at once; the service's choice unless set. */
  readonly pageSize?: number;
}

/** One metric's sum over one bucket. */
export interface UsageSum {
  /** The metric. */
  readonly metric: string;
  /** Where the bucket starts. */
  readonly bucketStart: Date;
  /** The sum; it may be more than a `number` can hold exactly. */
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

/** Meters tenants. To record events one by one, use a `UsageRecorder`. */
export class Usage {
  readonly #caller: Caller;

  constructor(caller: Caller) {
    this.#caller = caller;
  }

  /** Throws the error of a closed client. */
  assertOpen(): void {
    this.#caller.assertOpen();
  }

  /** Records 1 to 500 events. When it resolves, they are committed. */
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
    const reply = await this.#caller.call(UsageService.method.recordUsage, request, options);
    const rejected = reply.rejected.flatMap(({ index, error }) => {
      return error === undefined ? [] : [{ index, error: errorFromItem(error) }];
    });
    return { accepted: reply.accepted, rejected, alreadyRecorded: reply.alreadyRecorded };
  }

  /** A tenant's sums by time, then by metric; empty buckets are left out, pages are fetched as they are needed. */
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
      const page = await this.#caller.call(UsageService.method.queryUsage, request, options);
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
