import { writeSync } from "node:fs";

/** What would be lost if the process ended now. */
interface Waiting {
  readonly queued: number;
}

const WAITING = new Set<Waiting>();

function complain(): void {
  let events = 0;
  for (const { queued } of WAITING) events += queued;
  // At this point nothing but a synchronous write gets out.
  if (events > 0)
    writeSync(
      2,
      `tenant-auth: ${events} usage events were not sent: close() the usage recorder before the process ends\n`,
    );
}

/**
 * Has the process say at its end what a recorder did not send. Node.js waits for nothing in `process.exit`; a process that
 * ends because nothing is left to do has sent everything before.
 */
export function watchExit(recorder: Waiting): void {
  if (WAITING.size === 0) process.on("exit", complain);
  WAITING.add(recorder);
}

/** Nothing of it would be lost any more. */
export function unwatchExit(recorder: Waiting): void {
  if (WAITING.delete(recorder) && WAITING.size === 0) process.off("exit", complain);
}
