export { DeniedError } from "./denied.js";
export type { RequireKeyOptions } from "./http/admit.js";
export type { ProxyOptions } from "./http/client-address.js";
export type { RequestCosts } from "./http/costs.js";
export type { Problem } from "./http/rejection.js";
export type { Cost } from "./limits/cost.js";
export type { LimitDecision } from "./limits/decision.js";
export {
  type AuthInfo,
  clientAddressFrom,
  limitsFrom,
  principalFrom,
  type WithExtra,
} from "./mcp/auth-info.js";
export { type McpGate, type McpGateClient, mcpGate } from "./mcp/gate.js";
export {
  type McpHandle,
  type McpHandleClient,
  McpHandles,
  type McpHandlesOptions,
  UnknownHandleError,
} from "./mcp/handles.js";
export { KeyVerifier, type KeyVerifierOptions, type SdkErrors } from "./mcp/key-verifier.js";
export type { ResourceOptions } from "./mcp/metadata.js";
export type { McpGateOptions, McpRequest, UsageSink } from "./mcp/options.js";
export { type McpPolicy, type McpPolicyEntry, type McpPolicySection, readMcpPolicy } from "./mcp/policy.js";
export type { Principal } from "./principal.js";
