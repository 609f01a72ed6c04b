import { writeSync } from "node:fs";

/** A recorder with events that would be lost if the process exited now. */
interface UnsentRecorder {
  readonly queued: number;
}

const UNSENT_RECORDERS = new Set<UnsentRecorder>();

function reportUnsent(): void {
  let events = 0;
  for (const { queued } of UNSENT_RECORDERS) events += queued;
  // In an exit handler only synchronous writes work.
  if (events > 0)
    writeSync(
      2,
      `tenant-auth: usage events not sent: ${events}; call close() on the usage recorder before the process exits\n`,
    );
}

/**
 * Reports unsent events of a recorder when the process exits. Node.js does not wait for anything in `process.exit`. A
 * process that exits because nothing is left to do has sent everything before.
 */
export function watchExit(recorder: UnsentRecorder): void {
  if (UNSENT_RECORDERS.size === 0) process.on("exit", reportUnsent);
  UNSENT_RECORDERS.add(recorder);
}

/** Stops the report for a recorder that has no unsent events. */
export function unwatchExit(recorder: UnsentRecorder): void {
  if (UNSENT_RECORDERS.delete(recorder) && UNSENT_RECORDERS.size === 0) process.off("exit", reportUnsent);
}
