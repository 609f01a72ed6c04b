/** A map with a maximum size. The least recently used value is evicted. */
export class Lru<T> {
  readonly #capacity: number;
  readonly #values = new Map<string, T>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#values.size;
  }

  get(key: string): T | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    this.#values.delete(key);
    this.#values.set(key, value);
    return value;
  }

  /** Returns the evicted value, if any. */
  set(key: string, value: T): T | undefined {
    this.#values.set(key, value);
    if (this.#values.size <= this.#capacity) return undefined;
    const [oldest] = this.#values;
    if (oldest !== undefined) this.#values.delete(oldest[0]);
    return oldest?.[1];
  }

  delete(key: string): void {
    this.#values.delete(key);
  }

  clear(): void {
    this.#values.clear();
  }
}
