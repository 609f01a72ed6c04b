package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

type command struct {
	ID         any               `json:"id"`
	Op         string            `json:"op"`
	TimeoutMS  int64             `json:"timeout_ms"`
	Key        tenantauth.Key    `json:"key"`
	Keys       []tenantauth.Key  `json:"keys"`
	Scopes     []string          `json:"scopes"`
	Times      int               `json:"times"`
	SessionID  *string           `json:"session_id"`
	TenantID   string            `json:"tenant_id"`
	KeyID      string            `json:"key_id"`
	TTLMS      int64             `json:"ttl_ms"`
	Attributes map[string]string `json:"attributes"`
	RequestID  string            `json:"request_id"`
	Events     []usageEvent      `json:"events"`
	Metric     string            `json:"metric"`
	StartMS    int64             `json:"start_ms"`
	EndMS      int64             `json:"end_ms"`
	Bucket     string            `json:"bucket"`
	Calls      int               `json:"calls"`
	IntervalMS int64             `json:"interval_ms"`
	// Concurrency limits the calls of a load that are in flight at once; 0 means no limit.
	Concurrency int `json:"concurrency"`
	Count       int `json:"count"`
	// ClientAddress is the address of the customer of all keys.
	ClientAddress string `json:"client_address"`

	Costs         []cost   `json:"costs"`
	Actual        []cost   `json:"actual"`
	ConsumeID     string   `json:"consume_id"`
	ReservationID string   `json:"reservation_id"`
	ExpiresInMS   int64    `json:"expires_in_ms"`
	OnExpiry      string   `json:"on_expiry"`
	Requests      []taking `json:"requests"`
}

// sessionID returns the session id, or an empty text if there is none.
func (c command) sessionID() string {
	if c.SessionID == nil {
		return ""
	}
	return *c.SessionID
}

// taking returns the arguments of a command that takes something. The context has the client address.
func (c command) taking() taking {
	return taking{
		Key: c.Key, SessionID: c.SessionID, Scopes: c.Scopes, Costs: c.Costs, ConsumeID: c.ConsumeID,
		ReservationID: c.ReservationID, ExpiresInMS: c.ExpiresInMS, OnExpiry: c.OnExpiry,
	}
}

type usageEvent struct {
	TenantID string `json:"tenant_id"`
	Metric   string `json:"metric"`
	Quantity int64  `json:"quantity"`
	AtMS     int64  `json:"at_ms"`
}

type operation func(context.Context, *tenantauth.Client, command) (answer, error)

var operations = map[string]operation{
	"validate_key":              validateKey,
	"require_key":               requireKey,
	"load":                      load,
	"record_many":               recordMany,
	"validate_key_concurrently": validateKeyConcurrently,
	"validate_keys":             validateKeys,
	"bind_session":              bindSession,
	"validate_session":          validateSession,
	"unbind_session":            unbindSession,
	"record_usage":              recordUsage,
	"query_usage":               queryUsage,
	"consume":                   consume,
	"consume_many":              consumeMany,
	"reserve":                   reserve,
	"settle":                    settle,
	"cancel":                    cancel,
	"limit_state":               limitState,
	"watch_state":               watchState,
	"server_info":               serverInfo,
}

var buckets = map[string]tenantauth.Bucket{"HOUR": tenantauth.Hour, "DAY": tenantauth.Day, "MONTH": tenantauth.Month}

func validateKey(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	validation, err := client.ValidateKey(ctx, c.Key, c.Scopes...)
	return described(validation), err
}

func validateKeyConcurrently(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	type outcome struct {
		verdict, failed string
	}
	outcomes := make(chan outcome, c.Times)
	var all sync.WaitGroup
	for range c.Times {
		all.Go(func() {
			validation, err := client.ValidateKey(ctx, c.Key, c.Scopes...)
			if err != nil {
				outcomes <- outcome{failed: codeName(err)}
				return
			}
			outcomes <- outcome{verdict: validation.Verdict.String()}
		})
	}
	all.Wait()
	close(outcomes)
	verdicts, failures := map[string]int{}, map[string]int{}
	for made := range outcomes {
		if made.failed != "" {
			failures[made.failed]++
		} else {
			verdicts[made.verdict]++
		}
	}
	return answer{"verdicts": verdicts, "errors": failures}, nil
}

func validateKeys(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	queries := make([]tenantauth.KeyQuery, 0, len(c.Keys))
	for _, key := range c.Keys {
		queries = append(queries, tenantauth.KeyQuery{Key: key, Scopes: c.Scopes})
	}
	outcomes, err := client.ValidateKeys(ctx, queries)
	items := make([]answer, 0, len(outcomes))
	for _, outcome := range outcomes {
		if outcome.Err != nil {
			items = append(items, failure(outcome.Err))
		} else {
			items = append(items, described(outcome.Validation))
		}
	}
	return answer{"items": items}, err
}

func bindSession(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	binding, err := client.BindSession(ctx, tenantauth.Bind{
		SessionID:  c.sessionID(),
		Key:        c.Key,
		TTL:        time.Duration(c.TTLMS) * time.Millisecond,
		Attributes: c.Attributes,
	})
	return answer{
		"verdict":       binding.Verdict.String(),
		"already_bound": binding.AlreadyBound,
		"tenant_id":     binding.Session.TenantID,
		"key_id":        binding.Session.KeyID,
	}, err
}

func validateSession(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	validation, err := client.ValidateSession(ctx, c.sessionID(), c.Key, c.Scopes...)
	return describedSession(validation), err
}

func unbindSession(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	wasBound, err := client.UnbindSession(ctx, c.sessionID(), c.TenantID)
	return answer{"was_bound": wasBound}, err
}

func recordUsage(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	batch := tenantauth.UsageBatch{RequestID: c.RequestID}
	for _, event := range c.Events {
		made := tenantauth.UsageEvent{TenantID: event.TenantID, Metric: event.Metric, Quantity: event.Quantity}
		if event.AtMS != 0 {
			made.At = time.UnixMilli(event.AtMS)
		}
		batch.Events = append(batch.Events, made)
	}
	receipt, err := client.RecordUsage(ctx, batch)
	rejected := make([]answer, 0, len(receipt.Rejected))
	for _, rejection := range receipt.Rejected {
		made := failure(rejection.Err)
		made["index"] = rejection.Index
		rejected = append(rejected, made)
	}
	return answer{"accepted": receipt.Accepted, "rejected": rejected, "already_recorded": receipt.AlreadyRecorded}, err
}

func queryUsage(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	query := tenantauth.UsageQuery{
		TenantID: c.TenantID,
		Metric:   c.Metric,
		Start:    time.UnixMilli(c.StartMS),
		End:      time.UnixMilli(c.EndMS),
		Bucket:   buckets[c.Bucket],
	}
	sums := []answer{}
	for sum, err := range client.QueryUsage(ctx, query) {
		if err != nil {
			return nil, err
		}
		sums = append(sums, answer{
			"metric":          sum.Metric,
			"bucket_start_ms": sum.BucketStart.UnixMilli(),
			"quantity":        sum.Quantity,
		})
	}
	return answer{"sums": sums}, nil
}

func watchState(_ context.Context, client *tenantauth.Client, _ command) (answer, error) {
	state := client.WatchState()
	return answer{"live": state.Live, "revision": state.Revision}, nil
}

func serverInfo(ctx context.Context, client *tenantauth.Client, _ command) (answer, error) {
	info, err := client.ServerInfo(ctx)
	return answer{"version": info.Version, "revision": info.Revision}, err
}

func described(validation tenantauth.Validation) answer {
	missing := validation.MissingScopes
	if missing == nil {
		missing = []string{}
	}
	return answer{
		"verdict":        validation.Verdict.String(),
		"tenant_id":      validation.TenantID,
		"plan":           validation.Plan,
		"key_id":         validation.KeyID,
		"missing_scopes": missing,
		"source":         validation.Provenance.Source.String(),
	}
}

func describedSession(validation tenantauth.SessionValidation) answer {
	made := described(validation.Validation)
	made["attributes"] = validation.Attributes
	made["presented_key_id"] = validation.PresentedKeyID
	return made
}

func failure(err error) answer {
	made := answer{"error": codeName(err)}
	var known *tenantauth.Error
	if !errors.As(err, &known) {
		return made
	}
	made["reason"] = known.Reason
	fields := []string{}
	for _, violation := range known.Violations {
		fields = append(fields, violation.Field)
	}
	made["fields"] = fields
	return made
}

// codeName returns the canonical name, such as DEADLINE_EXCEEDED.
func codeName(err error) string {
	var known *tenantauth.Error
	if !errors.As(err, &known) {
		return code.Code_UNKNOWN.String()
	}
	return code.Code(known.Code).String()
}
