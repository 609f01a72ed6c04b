import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "../../src/client.js";
import type { LimitSchema } from "../../src/gen/tenantauth/v1/limit_pb.js";
import { duration } from "../../src/wire.js";

type Rule = NonNullable<Exclude<MessageInitShape<typeof LimitSchema>["rule"], undefined>>;

/** An amount in any interval of an hour. */
export function hourly(amount: number): Rule {
  const window = { case: "rolling" as const, value: duration("window", 3_600_000) };
  return { case: "quota", value: { amount: BigInt(amount), window } };
}

/** Sets a limit of the demo tenant, named like its metric. */
export async function setLimit(client: Client, metric: string, rule: Rule, shadow = false): Promise<void> {
  const subject = { subject: { case: "tenantId" as const, value: "ten_demo" } };
  await client.raw.admin.setLimit({ limit: { subject, name: metric, metric, rule, shadow } });
}
