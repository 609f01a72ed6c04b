import { TenantAuthError } from "../error.js";
import { guarded } from "../warning.js";

/** No more than one line in this time: an outage is no reason to fill a disk. */
const LINE_EVERY_MS = 1000;

/** Makes what is told of requests that nobody could decide about, unless there is something else: lines of the log. */
export function undecidedLog(
  write: (line: string) => void = console.warn,
  now: () => number = () => performance.now(),
): (error: unknown) => void {
  let last = Number.NEGATIVE_INFINITY;
  let count = 0;
  return (error) => {
    count += 1;
    if (now() - last < LINE_EVERY_MS) return;
    last = now();
    const requests = count === 1 ? "a request" : `${count} requests since the last line`;
    count = 0;
    write(`tenant-auth: ${requests} could not be decided about: ${reason(error)}`);
  };
}

/** The caller's own code may fail: the request is undecided all the same. */
export function tell(onError: (error: unknown) => void, error: unknown): void {
  guarded("onError", () => onError(error));
}

/** Only what this client worded: somebody else's error may hold a key. */
function reason(error: unknown): string {
  if (!(error instanceof TenantAuthError)) return error instanceof Error ? error.name : "an unknown error";
  const { message, reason, requestId } = error;
  return [message, reason && `(${reason})`, requestId && `request id ${requestId}`].filter(Boolean).join(" ");
}
