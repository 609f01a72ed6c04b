import type { StreamEnd } from "./stream-end.js";

/** Starts a guard that calls back when the stream must end. */
export type StartGuard = (onEnd: (end: StreamEnd) => void) => { release(): void };

/** Guards an iterable, from its first step on. At the end, the next step rejects with the reason. */
export function guardIterable<T>(source: AsyncIterable<T>, start: StartGuard): AsyncIterableIterator<T> {
  let iterator: AsyncIterator<T> | undefined;
  let guard: { release(): void } | undefined;
  let ended: StreamEnd | undefined;
  let isOver = false;
  let interrupt: ((error: Error) => void) | undefined;
  const open = (): AsyncIterator<T> => {
    guard = start((end) => {
      ended = end;
      interrupt?.(end.error);
      // The source may be waiting for its next value, and its cleanup may fail.
      Promise.resolve(iterator?.return?.()).catch(() => undefined);
    });
    return source[Symbol.asyncIterator]();
  };
  const finish = (): void => {
    isOver = true;
    guard?.release();
  };
  return {
    async next() {
      if (isOver) return { done: true, value: undefined };
      iterator ??= open();
      const { next } = iterator;
      try {
        const result = await new Promise<IteratorResult<T>>((resolve, reject) => {
          if (ended !== undefined) return reject(ended.error);
          interrupt = reject;
          next.call(iterator).then(resolve, reject);
        });
        if (result.done) finish();
        return result;
      } catch (error) {
        finish();
        throw error;
      } finally {
        interrupt = undefined;
      }
    },
    async return(value?: unknown) {
      finish();
      await iterator?.return?.();
      return { done: true, value: value as T };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** Guards a web stream, from its first read on. At the end it fails with the reason. Nothing is read ahead. */
export function guardReadable<T>(source: ReadableStream<T>, start: StartGuard): ReadableStream<T> {
  const reader = source.getReader();
  let guard: { release(): void } | undefined;
  return new ReadableStream<T>(
    {
      async pull(controller) {
        guard ??= start((end) => {
          controller.error(end.error);
          reader.cancel(end.error).catch(() => undefined);
        });
        try {
          const { done, value } = await reader.read();
          if (!done) return controller.enqueue(value);
          guard.release();
          controller.close();
        } catch (error) {
          guard.release();
          controller.error(error);
        }
      },
      async cancel(reason) {
        guard?.release();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
