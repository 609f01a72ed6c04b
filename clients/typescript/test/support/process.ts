import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { until } from "./until.js";

/** A program under test, with its output so far and its exit. */
export class Program {
  readonly lines: string[] = [];
  readonly complaints: string[] = [];
  readonly ended: Promise<number | null>;
  readonly #process: ChildProcessWithoutNullStreams;
  #over = false;

  constructor(t: TestContext, command: string, args: readonly string[], environment: NodeJS.ProcessEnv) {
    this.#process = spawn(command, args, { env: { ...process.env, ...environment } });
    createInterface({ input: this.#process.stdout }).on("line", (line) => this.lines.push(line));
    createInterface({ input: this.#process.stderr }).on("line", (line) => this.complaints.push(line));
    this.ended = new Promise((resolve, reject) => {
      this.#process.on("error", reject);
      this.#process.on("close", (code) => {
        this.#over = true;
        resolve(code);
      });
    });
    t.after(async () => {
      this.#process.kill("SIGKILL");
      await this.ended;
    });
  }

  write(text: string): void {
    this.#process.stdin.write(text);
  }

  endInput(): void {
    this.#process.stdin.end();
  }

  stop(): void {
    this.#process.kill("SIGTERM");
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  /** Makes it hang: its connections stay open without responses. */
  hang(): void {
    this.#process.kill("SIGSTOP");
  }

  resume(): void {
    this.#process.kill("SIGCONT");
  }

  /** Waits for a matching line of the output or the log, and returns its first group. */
  async said(pattern: RegExp): Promise<string> {
    let match: RegExpExecArray | null = null;
    await until(`the program says ${pattern}`, () => {
      match =
        [...this.lines, ...this.complaints]
          .map((line) => pattern.exec(line))
          .find((found) => found !== null) ?? null;
      if (match === null && this.#over) throw new Error(`it ended: ${this.complaints.join("\n")}`);
      return match !== null;
    });
    return (match as unknown as RegExpExecArray)[1] ?? "";
  }
}

/** A program of this package, by its path without extension. */
export function ours(t: TestContext, path: string, environment: NodeJS.ProcessEnv): Program {
  const script = fileURLToPath(new URL(`../../${path}.js`, import.meta.url));
  return new Program(t, process.execPath, [script], environment);
}
