/** The version of this package, as its package.json has it (a test compares): callers show it in the service's log. */
export const VERSION = "0.1.0";
