package tenantauth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func (r *rig) reserve(request tenantauth.ReserveRequest) *tenantauth.Reservation {
	r.t.Helper()
	if request.Credential == nil {
		request.Credential = tenantauth.KeyQuery{Key: key, Scopes: []string{scope}}
	}
	reservation, err := r.client.Reserve(r.ctx, request)
	if err != nil {
		r.t.Fatal(err)
	}
	return reservation
}

// expectReservation expects the state of the last reservation, and what counts of it.
func (r *rig) expectReservation(what string, state tenantauthv1.ReservationState, charged int64) {
	r.t.Helper()
	all := r.service.Reservations()
	if last := all[len(all)-1]; last.State != state || last.Charged != charged {
		r.t.Errorf("%s: %v, %d charged", what, last.State, last.Charged)
	}
}

const (
	held      = tenantauthv1.ReservationState_RESERVATION_STATE_HELD
	settled   = tenantauthv1.ReservationState_RESERVATION_STATE_SETTLED
	cancelled = tenantauthv1.ReservationState_RESERVATION_STATE_CANCELLED
)

func TestReservationIsSettledWithTheActualAmount(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 10)
	reservation := r.reserve(tenantauth.ReserveRequest{Costs: costs(8)})
	defer func() { _ = reservation.Close() }()
	principal, err := reservation.Principal()
	if err != nil || principal.KeyID != "key_1" || reservation.ID == "" || reservation.ExpiresIn != fake.DefaultExpiresIn || reservation.Limits[0].Remaining != 2 {
		t.Fatalf("%+v, %v", reservation, err)
	}
	settlement, err := reservation.Settle(r.ctx, tenantauth.Cost{Metric: metric, Amount: 3})
	want := tenantauth.SettledLimit{Name: fake.LimitName, Metric: metric, Reserved: 8, Charged: 3}
	if err != nil || settlement.State != tenantauth.ReservationSettled || settlement.AlreadySettled || settlement.Limits[0] != want {
		t.Errorf("%+v, %v", settlement, err)
	}
	if again, err := r.client.SettleReservation(r.ctx, reservation.ID, costs(5)...); err != nil || !again.AlreadySettled || again.Limits[0].Charged != 3 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := r.client.CancelReservation(r.ctx, reservation.ID); toError(t, err).Code != codes.FailedPrecondition {
		t.Errorf("%v", err)
	}
	if _, err := r.client.SettleReservation(r.ctx, "another"); toError(t, err).Code != codes.NotFound {
		t.Errorf("%v", err)
	}
	calls := r.service.Calls("Cancel")
	if err := reservation.Close(); err != nil || r.service.Calls("Cancel") != calls {
		t.Errorf("closing a settled reservation: %v, %d calls", err, r.service.Calls("Cancel")-calls)
	}
	if left := r.service.Left(metric); left != 7 {
		t.Errorf("%d left", left)
	}
}

func TestPanicCancelsTheReservation(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 10)
	func() {
		defer func() { _ = recover() }()
		reservation := r.reserve(tenantauth.ReserveRequest{Costs: costs(8)})
		defer func() { _ = reservation.Close() }()
		panic("the handler is broken")
	}()
	r.expectReservation("after the panic", cancelled, 0)
	if left := r.service.Left(metric); left != 10 {
		t.Errorf("%d left", left)
	}
}

func TestCloseCancelsOnlyWhatWasNotUsed(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithAttempts(1))
	r.service.PutLimit(metric, 100)
	fail := func(code codes.Code) {
		r.service.Before(func(_ context.Context, method string, _ any) error {
			if method == "Settle" && code != codes.OK {
				return status.Error(code, "a test")
			}
			return nil
		})
	}
	for name, test := range map[string]struct {
		code  codes.Code
		state tenantauthv1.ReservationState
	}{
		"settled":          {codes.OK, settled},
		"outcome unknown":  {codes.Unavailable, held},
		"metric not known": {codes.InvalidArgument, cancelled},
	} {
		fail(test.code)
		reservation := r.reserve(tenantauth.ReserveRequest{Costs: costs(1)})
		_, err := reservation.Settle(r.ctx)
		if (err == nil) != (test.code == codes.OK) {
			t.Errorf("%s: %v", name, err)
		}
		if err := reservation.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all := r.service.Reservations()
		if last := all[len(all)-1]; last.State != test.state {
			t.Errorf("%s: %v", name, last.State)
		}
	}
	byID := r.reserve(tenantauth.ReserveRequest{Costs: costs(1), ReservationID: "by-id"})
	fail(codes.OK)
	if _, err := r.client.SettleReservation(r.ctx, "by-id"); err != nil {
		t.Error(err)
	}
	if err := byID.Close(); err != nil {
		t.Errorf("settled by its id: %v", err)
	}
	cancelledTwice := r.reserve(tenantauth.ReserveRequest{Costs: costs(1)})
	for range 2 {
		if state, err := cancelledTwice.Cancel(r.ctx); err != nil || state != tenantauth.ReservationCancelled {
			t.Errorf("%v, %v", state, err)
		}
	}
	calls := r.service.Calls("Cancel")
	if err := cancelledTwice.Close(); err != nil || r.service.Calls("Cancel") != calls {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDeniedReservationHoldsNothing(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 10)
	for name, test := range map[string]struct {
		request tenantauth.ReserveRequest
		want    tenantauth.Verdict
	}{
		"limit":     {tenantauth.ReserveRequest{Costs: costs(11)}, tenantauth.QuotaExceeded},
		"unknown":   {tenantauth.ReserveRequest{Costs: costs(1), Credential: tenantauth.KeyQuery{Key: "nobody's"}}, tenantauth.Unknown},
		"malformed": {tenantauth.ReserveRequest{Costs: costs(1), Credential: tenantauth.KeyQuery{Key: "\xff"}}, tenantauth.Malformed},
	} {
		reservation := r.reserve(test.request)
		_, settling := reservation.Settle(r.ctx)
		_, cancelling := reservation.Cancel(r.ctx)
		for _, err := range []error{settling, cancelling} {
			if denied, ok := errors.AsType[*tenantauth.Denied](err); !ok || denied.Verdict != test.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if reservation.Allowed() || reservation.Verdict != test.want || reservation.ExpiresIn != 0 || reservation.Close() != nil {
			t.Errorf("%s: %+v", name, reservation)
		}
	}
	r.expectCalls("Cancel", 0)
	r.expectCalls("Settle", 0)
}

func TestReserveIsRepeatedWithTheSameID(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 10)
	var sent []*tenantauthv1.ReserveRequest
	r.service.Before(func(_ context.Context, method string, request any) error {
		if made, ok := request.(*tenantauthv1.ReserveRequest); ok {
			if sent = append(sent, made); len(sent) == 1 {
				return status.Error(codes.Unavailable, "not now")
			}
		}
		return nil
	})
	done := make(chan error, 1)
	go func() {
		_, err := r.client.Reserve(r.ctx, tenantauth.ReserveRequest{
			Credential: tenantauth.KeyQuery{Key: key}, Costs: costs(1), ExpiresIn: time.Minute, OnExpiry: tenantauth.ChargeOnExpiry,
		})
		done <- err
	}()
	r.advance(time.Second)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(sent) != 2 || sent[0].GetReservationId() != sent[1].GetReservationId() || len(sent[0].GetReservationId()) < 20 ||
		sent[1].GetExpiresIn().AsDuration() != time.Minute || sent[1].GetOnExpiry() != tenantauthv1.ReservationExpiry_RESERVATION_EXPIRY_CHARGE {
		t.Errorf("%v", sent)
	}
	first := r.reserve(tenantauth.ReserveRequest{Costs: costs(2), ReservationID: "own"})
	second := r.reserve(tenantauth.ReserveRequest{Costs: costs(2), ReservationID: "own"})
	if first.AlreadyReserved || !second.AlreadyReserved || second.ID != "own" || r.service.Left(metric) != 7 {
		t.Errorf("%+v, %+v", first, second)
	}
}
