package tenantauth_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestRepeatedRequestIsCachedWithItsAge(t *testing.T) {
	r := start(t)
	answer := fake.Valid("key_1", scope)
	answer.Provenance.Age = durationpb.New(time.Second)
	r.service.Put(key, answer)
	r.expect("the first time", tenantauth.Valid, tenantauth.SourceDatabase)
	r.clock.Advance(2 * time.Second)
	validation := r.validate(scope)
	provenance := tenantauth.Provenance{
		Source: tenantauth.SourceNear, Age: 3 * time.Second, Revision: fake.DefaultRevision, CacheableFor: 3 * time.Second, CacheableWhileWatched: 58 * time.Second,
	}
	if validation.Provenance != provenance || validation.TenantID != "ten_1" || validation.KeyID != "key_1" {
		t.Errorf("%+v", validation)
	}
	r.clock.Advance(3 * time.Second)
	r.expect("after the allowed time", tenantauth.Valid, tenantauth.SourceDatabase)
	r.expectCalls("ValidateKey", 2)
}

func TestScopesAreComparedExactlyInTheCache(t *testing.T) {
	r := start(t)
	for _, query := range []struct {
		required, missing []string
	}{
		{nil, nil},
		{[]string{"orders:read"}, nil},
		{[]string{"orders:write", "orders:read"}, nil},
		{[]string{"orders:*"}, []string{"orders:*"}},
		{[]string{"orders:read", "z", "a", "z"}, []string{"a", "z"}},
	} {
		verdict := tenantauth.Valid
		if query.missing != nil {
			verdict = tenantauth.InsufficientScope
		}
		validation := r.validate(query.required...)
		if validation.Verdict != verdict || !slices.Equal(validation.MissingScopes, query.missing) {
			t.Errorf("%v: %v, missing %v", query.required, validation.Verdict, validation.MissingScopes)
		}
	}
	r.expectCalls("ValidateKey", 1)
}

func TestInvalidScopesAreLeftToTheService(t *testing.T) {
	r := start(t)
	r.validate()
	_, err := r.client.ValidateKey(r.ctx, key, "")
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "required_scopes[0]" {
		t.Errorf("%+v", made)
	}
	// Upper case, too long, too many: a newer service may allow them.
	for _, scopes := range [][]string{{"A"}, {string(make([]byte, 65))}, make([]string, 33)} {
		before := r.service.Calls("ValidateKey")
		_, _ = r.client.ValidateKey(r.ctx, key, scopes...)
		r.expectCalls("ValidateKey", before+1)
	}
}

func TestCallerCannotModifyCachedAnswer(t *testing.T) {
	r := start(t)
	for range 2 {
		validation := r.validate(scope)
		if !validation.IsValid() {
			t.Fatalf("%+v", validation)
		}
		validation.Scopes[0], validation.Scopes[1] = "admin", "admin"
	}
}

func TestEachVerdictIsCachedForTheAllowedTime(t *testing.T) {
	for verdict := range tenantauthv1.Verdict_name {
		if verdict == 0 {
			continue
		}
		t.Run(tenantauth.Verdict(verdict).String(), func(t *testing.T) {
			r := start(t)
			r.service.Put(key, fake.Denied(tenantauthv1.Verdict(verdict), "key_1"))
			// All scopes of the key are known, so INSUFFICIENT_SCOPE is evaluated here.
			want := tenantauth.Verdict(verdict)
			if want == tenantauth.InsufficientScope {
				want = tenantauth.Valid
			}
			r.expect("the first time", want, tenantauth.SourceDatabase)
			r.expect("the second time", want, tenantauth.SourceNear)
		})
	}
}

func TestExpiryIsNotComparedWithTheClientClock(t *testing.T) {
	r := start(t)
	answer := fake.Valid("key_1")
	// By a clock that is one hour off, the key has expired. The service's answer and its lifetime count.
	answer.ExpiresAt = timestamppb.New(r.clock.Now().Add(-time.Hour))
	r.service.Put(key, answer)
	r.validate()
	r.expect("within what the service allows", tenantauth.Valid, tenantauth.SourceNear)
}

func TestThousandConcurrentRequestsAreOneCall(t *testing.T) {
	r := start(t, tenantauth.WithTimeout(testTimeout))
	release := make(chan struct{})
	r.service.Before(func(context.Context, string, any) error {
		<-release
		return nil
	})
	var all sync.WaitGroup
	for n := range 1_000 {
		all.Go(func() {
			// Some require scopes that the key does not hold: they share the call too.
			if n%2 == 0 {
				if validation, err := r.client.ValidateKey(r.ctx, key, scope); err != nil || !validation.IsValid() {
					t.Errorf("%v, %v", validation.Verdict, err)
				}
				return
			}
			validation, err := r.client.ValidateKey(r.ctx, key, "admin")
			if err != nil || validation.Verdict != tenantauth.InsufficientScope {
				t.Errorf("%v, %v", validation.Verdict, err)
			}
		})
	}
	r.await("the call", func() bool { return r.service.Calls("ValidateKey") == 1 })
	close(release)
	all.Wait()
	r.expectCalls("ValidateKey", 1)
}

func TestErrorIsSharedButNotCached(t *testing.T) {
	r := start(t, tenantauth.WithAttempts(1))
	r.service.Before(func(context.Context, string, any) error { return status.Error(codes.Internal, "a defect") })
	if _, err := r.client.ValidateKey(r.ctx, key); toError(t, err).Code != codes.Internal {
		t.Errorf("%v", err)
	}
	r.service.Before(nil)
	r.expect("after the error", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestWithoutNearCacheEveryRequestIsACall(t *testing.T) {
	r := start(t, tenantauth.WithoutNearCache())
	for range 3 {
		r.expect("each time", tenantauth.Valid, tenantauth.SourceDatabase)
	}
	if validation := r.validate("admin"); validation.Verdict != tenantauth.InsufficientScope || !slices.Equal(validation.MissingScopes, []string{"admin"}) {
		t.Errorf("%+v", validation)
	}
	r.expectCalls("ValidateKey", 4)
	r.expectCalls("Watch", 0)
	if state := r.client.WatchState(); state.Live {
		t.Errorf("%+v", state)
	}
}

func TestNonUTF8KeyIsMalformedWithoutACall(t *testing.T) {
	r := start(t)
	validation, err := r.client.ValidateKey(r.ctx, "ta_\xff")
	if err != nil || validation.Verdict != tenantauth.Malformed {
		t.Errorf("%v, %v", validation.Verdict, err)
	}
	session, err := r.client.ValidateSession(r.ctx, "session", "ta_\xff")
	if err != nil || session.Verdict != tenantauth.Malformed {
		t.Errorf("%v, %v", session.Verdict, err)
	}
	r.expectCalls("ValidateKey", 0)
	r.expectCalls("ValidateSession", 0)
}
