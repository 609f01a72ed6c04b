export type { KeyOutcome, KeyQuery } from "./batch.js";
export { Client, type RawServices } from "./client.js";
export { type Clock, systemClock } from "./clock.js";
export { DeniedError } from "./denied.js";
export { type Code, type ErrorKind, TenantAuthError, type Violation } from "./error.js";
export type { Guard, GuardStream } from "./guard/guard.js";
export type { ClosableSocket } from "./guard/pushed.js";
export type { StreamEnd } from "./guard/stream-end.js";
export type { GuardOptions } from "./guard/stream-guard.js";
export type { DatabaseKind, ServerInfo } from "./info.js";
export type { ConsumeOutcome, ConsumeQuery } from "./limits/batch.js";
export type { Cost } from "./limits/cost.js";
export type { LimitCredential, SessionQuery } from "./limits/credential.js";
export type { DecidedBy, LimitDecision } from "./limits/decision.js";
export type { ConsumeOptions, LimitStateSubject, Limits, ReserveOptions } from "./limits/limits.js";
export type { LocalLimiter, LocalLimiterOptions } from "./limits/local-limiter.js";
export type { Consumption, LimitOutcome } from "./limits/outcome.js";
export type {
  Reservation,
  ReservationState,
  ReserveOutcome,
  SettledLimit,
  Settlement,
} from "./limits/reservation.js";
export type { CalendarWindow, Limit, LimitRule, LimitState, LimitSubject } from "./limits/state.js";
export type { WatchState } from "./near/watch.js";
export type { TlsOptions } from "./net/tls.js";
export type { ClientOptions, NearCacheOptions } from "./options.js";
export type { Principal } from "./principal.js";
export { type PrincipalDenial, PrincipalDeniedError } from "./principal-token/denied.js";
export type { VerifiedPrincipal } from "./principal-token/verified.js";
export type {
  PrincipalVerifier,
  PrincipalVerifierOptions,
  VerifyPrincipal,
} from "./principal-token/verifier.js";
export { type RecorderOptions, type UnsentUsage, UsageQueueFullError, UsageRecorder } from "./recorder.js";
export type { CallerToken } from "./rpc/caller-token.js";
export type { RawService } from "./rpc/raw.js";
export type { CallOptions } from "./rpc/rpc-client.js";
export type { Binding, BindSession, ListSessions, Session, Sessions } from "./sessions.js";
export type {
  QueryUsage,
  RecordUsage,
  RejectedUsage,
  Usage,
  UsageBucket,
  UsageEvent,
  UsageRecorded,
  UsageSum,
} from "./usage.js";
export type { ValidateKey, ValidateSession } from "./validate-options.js";
export type { SessionValidation, Validation } from "./validation.js";
export type { Source, Verdict } from "./verdict.js";
