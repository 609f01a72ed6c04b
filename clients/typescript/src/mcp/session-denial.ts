import { denied, noSession, type Rejection } from "../http/rejection.js";
import type { Verdict } from "../verdict.js";

/** MCP clients open a new session after a 404. After a 401 they would ask for a new key. */
export function sessionRejection(verdict: Verdict): Rejection {
  return isAboutCustomer(verdict) ? denied(verdict, [], {}) : noSession(verdict);
}

/** Whether a denial is about the customer, so that another session would not help. */
export function isAboutCustomer(verdict: Verdict): boolean {
  switch (verdict) {
    case "ADDRESS_REQUIRED":
    case "ADDRESS_NOT_ALLOWED":
    case "TENANT_SUSPENDED":
    case "QUOTA_EXCEEDED":
    case "RATE_LIMITED":
    case "UNRECOGNIZED":
      return true;
    default:
      return false;
  }
}
