declare module "proxy-from-env" {
  /** Returns the proxy of the environment variables for a URL; empty if there is none. */
  export function getProxyForUrl(url: string): string;
}
