// Asks the program that has started this one to stop or start the database.

import { createInterface } from "node:readline";

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const ask = async (what) => {
  console.log(what);
  await answers.next();
};

export const stopDatabase = () => ask("DATABASE DOWN");
export const startDatabase = () => ask("DATABASE UP");
