import { TenantAuthError } from "../error.js";
import { guarded } from "../warning.js";

/** Minimum time between two log lines, so that an outage does not fill the disk. */
const MIN_LOG_INTERVAL_MS = 1000;

/** Returns the default error callback, which logs undecided requests with their number. */
export function undecidedLog(
  write: (line: string) => void = console.warn,
  now: () => number = () => performance.now(),
): (error: unknown) => void {
  let last = Number.NEGATIVE_INFINITY;
  let count = 0;
  return (error) => {
    count += 1;
    if (now() - last < MIN_LOG_INTERVAL_MS) return;
    last = now();
    const undecided = count;
    count = 0;
    write(`tenant-auth: requests undecided: ${undecided}; last error: ${reason(error)}`);
  };
}

/** Calls the application's callback, which may fail. The request is rejected in any case. */
export function notify(onError: (error: unknown) => void, error: unknown): void {
  guarded("onError", () => onError(error));
}

/** Only messages of this client are logged: other errors may contain a key. */
function reason(error: unknown): string {
  if (!(error instanceof TenantAuthError)) return error instanceof Error ? error.name : "an unknown error";
  const { message, reason, requestId } = error;
  return [message, reason && `(${reason})`, requestId && `request id ${requestId}`].filter(Boolean).join(" ");
}
