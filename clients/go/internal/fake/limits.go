package fake

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// LimitName is the name of each limit of the server.
const LimitName = "requests"

// DefaultExpiresIn is how long a reservation holds if the request does not say.
const DefaultExpiresIn = 10 * time.Minute

// Reservation is a reservation of the server.
type Reservation struct {
	// ID is the id that the client chose.
	ID string
	// Amount is the sum of the reserved amounts, and Charged what counts now.
	Amount, Charged int64
	State           tenantauthv1.ReservationState
	// Request is the request that made it.
	Request *tenantauthv1.ReserveRequest
}

type limits struct {
	tenantauthv1.UnimplementedLimitServiceServer

	limitsMu   sync.Mutex
	validation *validation
	// left is what is left of the limit of each metric; a metric that is missing has none.
	left         map[string]int64
	consumed     map[string]*tenantauthv1.ConsumeResponse
	reservations []*Reservation
}

func (l *limits) init(validation *validation) {
	l.validation = validation
	l.left = map[string]int64{}
	l.consumed = map[string]*tenantauthv1.ConsumeResponse{}
}

// PutLimit sets what is left of the limit of a metric, for all keys together.
func (l *limits) PutLimit(metric string, left int64) {
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	l.left[metric] = left
}

// Left returns what is left of the limit of a metric.
func (l *limits) Left(metric string) int64 {
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	return l.left[metric]
}

// Reservations returns all reservations, in the order in which they were made.
func (l *limits) Reservations() (all []Reservation) {
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	for _, held := range l.reservations {
		all = append(all, *held)
	}
	return all
}

// take decides all costs, and takes them if none is denied. The lock must be held.
func (l *limits) take(costs []*tenantauthv1.Cost) (tenantauthv1.Verdict, []*tenantauthv1.LimitDecision) {
	verdict := tenantauthv1.Verdict_VERDICT_VALID
	var decisions []*tenantauthv1.LimitDecision
	for _, cost := range costs {
		left, ok := l.left[cost.GetMetric()]
		if !ok {
			continue
		}
		decision := &tenantauthv1.LimitDecision{
			Name: LimitName, Metric: cost.GetMetric(), Limit: 100, Remaining: left, Window: durationpb.New(time.Hour),
			ResetAfter: durationpb.New(90 * time.Second), DecidedBy: tenantauthv1.DecidedBy_DECIDED_BY_LEASE, Exceeded: left < cost.GetAmount(),
		}
		if decision.GetExceeded() {
			verdict, decision.RetryAfter = tenantauthv1.Verdict_VERDICT_QUOTA_EXCEEDED, durationpb.New(90*time.Second)
		}
		decisions = append(decisions, decision)
	}
	if verdict == tenantauthv1.Verdict_VERDICT_VALID {
		for _, decision := range decisions {
			index := slices.IndexFunc(costs, func(cost *tenantauthv1.Cost) bool { return cost.GetMetric() == decision.GetMetric() })
			l.left[decision.GetMetric()] -= costs[index].GetAmount()
			decision.Remaining = l.left[decision.GetMetric()]
		}
	}
	return verdict, decisions
}

// validate validates a credential. Exactly one of the answers is set.
func (l *limits) validate(ctx context.Context, who *tenantauthv1.LimitCredential) (*tenantauthv1.ValidateKeyResponse, *tenantauthv1.ValidateSessionResponse, error) {
	if session := who.GetSession(); session != nil {
		answer, err := l.validation.ValidateSession(ctx, session)
		return nil, answer, err
	}
	if who.GetKey().GetKey() == "" {
		return nil, nil, Invalid("credential.key.key", "must not be empty")
	}
	answer, err := l.validation.ValidateKey(ctx, who.GetKey())
	return answer, nil, err
}

// Consume validates the credential, and takes the costs.
func (l *limits) Consume(ctx context.Context, request *tenantauthv1.ConsumeRequest) (*tenantauthv1.ConsumeResponse, error) {
	key, session, err := l.validate(ctx, request.GetCredential())
	if err != nil {
		return nil, err
	}
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	reply := &tenantauthv1.ConsumeResponse{Verdict: key.GetVerdict(), Validation: &tenantauthv1.ConsumeResponse_Key{Key: key}}
	if session != nil {
		reply = &tenantauthv1.ConsumeResponse{Verdict: session.GetVerdict(), Validation: &tenantauthv1.ConsumeResponse_Session{Session: session}}
	}
	if earlier, ok := l.consumed[request.GetConsumeId()]; ok {
		again := proto.Clone(earlier).(*tenantauthv1.ConsumeResponse)
		again.Limits, again.AlreadyConsumed = nil, true
		return again, nil
	}
	if reply.GetVerdict() == tenantauthv1.Verdict_VERDICT_VALID {
		reply.Verdict, reply.Limits = l.take(request.GetCosts())
	}
	if request.GetConsumeId() != "" {
		l.consumed[request.GetConsumeId()] = reply
	}
	return reply, nil
}

// BatchConsume decides each request by itself. One of the metric "undecidable" gets an error.
func (l *limits) BatchConsume(ctx context.Context, request *tenantauthv1.BatchConsumeRequest) (*tenantauthv1.BatchConsumeResponse, error) {
	reply := &tenantauthv1.BatchConsumeResponse{}
	for _, entry := range request.GetRequests() {
		made, err := l.Consume(ctx, entry)
		if len(entry.GetCosts()) > 0 && entry.GetCosts()[0].GetMetric() == "undecidable" {
			err = Unavailable("LIMIT_UNDECIDED", time.Second)
		}
		result := &tenantauthv1.BatchConsumeResult{Result: &tenantauthv1.BatchConsumeResult_Response{Response: made}}
		if err != nil {
			result.Result = &tenantauthv1.BatchConsumeResult_Error{Error: status.Convert(err).Proto()}
		}
		reply.Results = append(reply.Results, result)
	}
	return reply, nil
}

// Reserve validates the credential, and sets the costs aside.
func (l *limits) Reserve(ctx context.Context, request *tenantauthv1.ReserveRequest) (*tenantauthv1.ReserveResponse, error) {
	key, _, err := l.validate(ctx, request.GetCredential())
	if err != nil {
		return nil, err
	}
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	reply := &tenantauthv1.ReserveResponse{Verdict: key.GetVerdict(), Validation: &tenantauthv1.ReserveResponse_Key{Key: key}}
	reply.AlreadyReserved = l.reservation(request.GetReservationId()) != nil
	if reply.GetVerdict() == tenantauthv1.Verdict_VERDICT_VALID && !reply.GetAlreadyReserved() {
		reply.Verdict, reply.Limits = l.take(request.GetCosts())
	}
	if reply.GetVerdict() != tenantauthv1.Verdict_VERDICT_VALID {
		return reply, nil
	}
	reply.ExpiresIn = durationpb.New(DefaultExpiresIn)
	if request.GetExpiresIn() != nil {
		reply.ExpiresIn = request.GetExpiresIn()
	}
	if !reply.GetAlreadyReserved() {
		made := &Reservation{ID: request.GetReservationId(), State: tenantauthv1.ReservationState_RESERVATION_STATE_HELD, Request: request}
		for _, cost := range request.GetCosts() {
			made.Amount += cost.GetAmount()
		}
		made.Charged = made.Amount
		l.reservations = append(l.reservations, made)
	}
	return reply, nil
}

// reservation returns the reservation with an id, or nil. The lock must be held.
func (l *limits) reservation(id string) *Reservation {
	index := slices.IndexFunc(l.reservations, func(held *Reservation) bool { return held.ID == id })
	if index < 0 {
		return nil
	}
	return l.reservations[index]
}

// giveBack must be called with the lock held.
func (l *limits) giveBack(metric string, amount int64) {
	if _, ok := l.left[metric]; ok {
		l.left[metric] += amount
	}
}

// Settle replaces the reserved amount of the first metric.
func (l *limits) Settle(_ context.Context, request *tenantauthv1.SettleRequest) (*tenantauthv1.SettleResponse, error) {
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	held := l.reservation(request.GetReservationId())
	if held == nil {
		return nil, status.Error(codes.NotFound, "there is no such reservation")
	}
	metric := held.Request.GetCosts()[0].GetMetric()
	reply := &tenantauthv1.SettleResponse{AlreadySettled: held.State == tenantauthv1.ReservationState_RESERVATION_STATE_SETTLED}
	if held.State == tenantauthv1.ReservationState_RESERVATION_STATE_HELD {
		held.State = tenantauthv1.ReservationState_RESERVATION_STATE_SETTLED
		for _, actual := range request.GetActual() {
			if actual.GetMetric() != metric {
				return nil, Invalid("actual[0].metric", "was not reserved")
			}
			held.Charged = actual.GetAmount()
		}
		l.giveBack(metric, held.Amount-held.Charged)
	}
	reply.State = held.State
	reply.Limits = []*tenantauthv1.SettledLimit{{Name: LimitName, Metric: metric, Reserved: held.Amount, Charged: held.Charged}}
	return reply, nil
}

// Cancel gives the reserved amount of the first metric back.
func (l *limits) Cancel(_ context.Context, request *tenantauthv1.CancelRequest) (*tenantauthv1.CancelResponse, error) {
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	held := l.reservation(request.GetReservationId())
	switch {
	case held == nil:
		return nil, status.Error(codes.NotFound, "there is no such reservation")
	case held.State == tenantauthv1.ReservationState_RESERVATION_STATE_SETTLED:
		return nil, status.Error(codes.FailedPrecondition, "the reservation was settled")
	case held.State == tenantauthv1.ReservationState_RESERVATION_STATE_HELD:
		held.State, held.Charged = tenantauthv1.ReservationState_RESERVATION_STATE_CANCELLED, 0
		l.giveBack(held.Request.GetCosts()[0].GetMetric(), held.Amount)
	}
	return &tenantauthv1.CancelResponse{State: held.State}, nil
}

// GetLimitState returns the limits that were set.
func (l *limits) GetLimitState(_ context.Context, request *tenantauthv1.GetLimitStateRequest) (*tenantauthv1.GetLimitStateResponse, error) {
	if request.GetTenantId() != "ten_1" && request.GetKeyId() == "" {
		return nil, status.Error(codes.NotFound, "there is no such tenant")
	}
	l.limitsMu.Lock()
	defer l.limitsMu.Unlock()
	reply := &tenantauthv1.GetLimitStateResponse{}
	for metric, left := range l.left {
		reply.Limits = append(reply.Limits, &tenantauthv1.LimitState{
			Limit: &tenantauthv1.Limit{Name: LimitName, Metric: metric}, Remaining: left, ResetAfter: durationpb.New(time.Minute),
		})
	}
	return reply, nil
}
