package tenantauth_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const restricted = "ta_key_with_networks"

// startRestricted is a rig with a key that may be used from certain networks only.
func startRestricted(t *testing.T, options ...tenantauth.Option) *rig {
	t.Helper()
	r := start(t, options...)
	r.service.Put(restricted, fake.Restricted("key_2", "192.0.2.0/24", "198.51.100.7/32", "2001:db8:1::/48"))
	return r
}

func (r *rig) from(address string, scopes ...string) tenantauth.Validation {
	r.t.Helper()
	ctx := tenantauth.ContextWithClientAddressText(r.ctx, address)
	validation, err := r.client.ValidateKey(ctx, restricted, scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return validation
}

// sent records the requests of a method.
func (r *rig) sent() func() []proto.Message {
	var mu sync.Mutex
	var requests []proto.Message
	r.service.Before(func(_ context.Context, _ string, request any) error {
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, request.(proto.Message))
		return nil
	})
	return func() []proto.Message {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(requests)
	}
}

func TestOneAnswerServesAllAddresses(t *testing.T) {
	for _, first := range []string{"192.0.2.7", "203.0.113.1", ""} {
		r := startRestricted(t)
		r.from(first)
		for _, test := range []struct {
			address string
			scopes  []string
			verdict tenantauth.Verdict
			missing []string
		}{
			{"192.0.2.255", nil, tenantauth.Valid, nil},
			{"192.0.2.1:443", []string{scope}, tenantauth.Valid, nil},
			{"::ffff:192.0.2.1", nil, tenantauth.Valid, nil},
			{"192.0.3.0", nil, tenantauth.AddressNotAllowed, nil},
			{"198.51.100.7", nil, tenantauth.Valid, nil},
			{"198.51.100.8", nil, tenantauth.AddressNotAllowed, nil},
			{"[2001:db8:1:ffff::1]:443", nil, tenantauth.Valid, nil},
			{"2001:db8:2::1", nil, tenantauth.AddressNotAllowed, nil},
			{"", nil, tenantauth.AddressRequired, nil},
			{"", []string{"admin"}, tenantauth.AddressRequired, nil},
			{"192.0.2.7", []string{"admin"}, tenantauth.InsufficientScope, []string{"admin"}},
			{"192.0.3.7", []string{"admin"}, tenantauth.AddressNotAllowed, nil},
		} {
			validation := r.from(test.address, test.scopes...)
			if validation.Verdict != test.verdict || !slices.Equal(validation.MissingScopes, test.missing) ||
				validation.Provenance.Source != tenantauth.SourceNear || validation.TenantID != "ten_1" || validation.KeyID != "key_2" {
				t.Errorf("first %q, then %q with %v: %+v", first, test.address, test.scopes, validation)
			}
		}
		r.expectCalls("ValidateKey", 1)
	}
}

func TestServiceDecidesAddressesWithoutNearCache(t *testing.T) {
	r := startRestricted(t, tenantauth.WithoutNearCache())
	for address, verdict := range map[string]tenantauth.Verdict{
		"192.0.2.7": tenantauth.Valid, "[::ffff:c000:207]:443": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
	} {
		if validation := r.from(address); validation.Verdict != verdict {
			t.Errorf("%q: %v", address, validation.Verdict)
		}
	}
	r.expectCalls("ValidateKey", 4)
}

func TestRequestCarriesThePlainAddress(t *testing.T) {
	r := startRestricted(t)
	sent := r.sent()
	ctx := tenantauth.ContextWithClientAddress(r.ctx, netip.MustParseAddr("::ffff:192.0.2.7"))
	if address, ok := tenantauth.ClientAddressFrom(ctx); !ok || address.String() != "192.0.2.7" {
		t.Errorf("%v, %t", address, ok)
	}
	if _, err := r.client.ValidateKey(ctx, restricted, scope); err != nil {
		t.Fatal(err)
	}
	ctx = tenantauth.ContextWithClientAddressText(ctx, "[2001:DB8:1::7%eth0]:443")
	bind := tenantauth.Bind{SessionID: session, Key: restricted, TTL: time.Hour}
	if binding, err := r.client.BindSession(ctx, bind); err != nil || binding.Verdict != tenantauth.Valid {
		t.Fatalf("%+v, %v", binding, err)
	}
	if _, err := r.client.ValidateSession(ctx, session, ""); err != nil {
		t.Fatal(err)
	}
	// The zero address removes the one of the context.
	none := tenantauth.ContextWithClientAddress(ctx, netip.Addr{})
	if _, ok := tenantauth.ClientAddressFrom(none); ok {
		t.Error("the address was not removed")
	}
	if _, err := r.client.ValidateKey(none, key); err != nil {
		t.Fatal(err)
	}
	want := []proto.Message{
		&tenantauthv1.ValidateKeyRequest{Key: restricted, ClientAddress: "192.0.2.7"},
		&tenantauthv1.BindSessionRequest{SessionId: session, ClientAddress: "2001:db8:1::7"},
		&tenantauthv1.ValidateSessionRequest{SessionId: session, ClientAddress: "2001:db8:1::7"},
		&tenantauthv1.ValidateKeyRequest{Key: key},
	}
	requests := sent()
	if binding, ok := requests[1].(*tenantauthv1.BindSessionRequest); ok {
		binding.Key, binding.Ttl, binding.Expiry = "", nil, 0
	}
	for index, request := range requests {
		if !proto.Equal(request, want[index]) {
			t.Errorf("%d: %v", index, request)
		}
	}
}

func TestInvalidAddressIsAnErrorWithoutACall(t *testing.T) {
	for name, options := range map[string][]tenantauth.Option{"near cache": nil, "without": {tenantauth.WithoutNearCache()}} {
		r := startRestricted(t, options...)
		r.validate()
		ctx := tenantauth.ContextWithClientAddressText(r.ctx, "192.0.2.0/24")
		if _, ok := tenantauth.ClientAddressFrom(ctx); ok {
			t.Error("an invalid text is returned as an address")
		}
		_, single := r.client.ValidateKey(ctx, key)
		_, required := r.client.RequireKey(ctx, key)
		_, about := r.client.ValidateSession(ctx, session, "")
		_, bound := r.client.BindSession(ctx, tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
		for what, err := range map[string]error{"key": single, "required": required, "session": about, "binding": bound} {
			made := toError(t, err)
			if !errors.Is(err, tenantauth.ErrInvalid) || len(made.Violations) != 1 || made.Violations[0].Field != "client_address" {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		r.expectCalls("ValidateKey", 1)
		r.expectCalls("ValidateSession", 0)
		r.expectCalls("BindSession", 0)
	}
}

func TestEachKeyOfABatchHasItsAddress(t *testing.T) {
	r := startRestricted(t)
	sent := r.sent()
	ctx := tenantauth.ContextWithClientAddressText(r.ctx, "192.0.2.7")
	queries := []tenantauth.KeyQuery{
		{Key: restricted}, {Key: restricted, ClientAddress: "203.0.113.1:443"}, {Key: restricted, ClientAddress: "x"}, {Key: key},
	}
	outcomes, err := r.client.ValidateKeys(ctx, queries)
	if err != nil {
		t.Fatal(err)
	}
	for index, verdict := range []tenantauth.Verdict{tenantauth.Valid, tenantauth.AddressNotAllowed, 0, tenantauth.Valid} {
		if outcomes[index].Verdict != verdict {
			t.Errorf("%d: %v", index, outcomes[index].Verdict)
		}
	}
	if made := toError(t, outcomes[2].Err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "client_address" {
		t.Errorf("%+v", made)
	}
	var addresses []string
	for _, query := range sent()[0].(*tenantauthv1.BatchValidateKeysRequest).GetRequests() {
		addresses = append(addresses, query.GetClientAddress())
	}
	if !slices.Equal(addresses, []string{"192.0.2.7", "203.0.113.1", "192.0.2.7"}) {
		t.Errorf("%q were sent", addresses)
	}
	outcomes, err = r.client.ValidateKeys(r.ctx, queries[:1])
	if err != nil || outcomes[0].Verdict != tenantauth.AddressRequired {
		t.Errorf("%+v, %v", outcomes, err)
	}
}

func TestCallersOfOneRequestEvaluateTheirOwnAddress(t *testing.T) {
	r := startRestricted(t, tenantauth.WithTimeout(testTimeout))
	release := make(chan struct{})
	r.service.Before(func(context.Context, string, any) error {
		<-release
		return nil
	})
	verdicts := map[string]tenantauth.Verdict{
		"192.0.2.7": tenantauth.Valid, "203.0.113.1": tenantauth.AddressNotAllowed, "": tenantauth.AddressRequired,
	}
	var all sync.WaitGroup
	for range 100 {
		for address, verdict := range verdicts {
			all.Go(func() {
				ctx := tenantauth.ContextWithClientAddressText(r.ctx, address)
				if validation, err := r.client.ValidateKey(ctx, restricted); err != nil || validation.Verdict != verdict {
					t.Errorf("%q: %v, %v", address, validation.Verdict, err)
				}
			})
		}
	}
	r.await("the call", func() bool { return r.service.Calls("ValidateKey") == 1 })
	close(release)
	all.Wait()
	r.expectCalls("ValidateKey", 1)
}
