package tenantauth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

const getKeys = "GetPrincipalKeys"

// block makes requests of keys wait until the returned function is called.
func (r *principalRig) block() (release func()) {
	released := make(chan struct{})
	r.service.Before(func(ctx context.Context, method string, _ any) error {
		if method == getKeys {
			select {
			case <-released:
			case <-ctx.Done():
			}
		}
		return nil
	})
	return sync.OnceFunc(func() { close(released) })
}

// fail makes requests of keys fail.
func (r *principalRig) fail() {
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == getKeys {
			return fake.Unavailable("STARTING", time.Second)
		}
		return nil
	})
}

func TestUnknownPrincipalKeyIsRequestedOnceIn5s(t *testing.T) {
	r := startPrincipal(t)
	next := edSigner(t)
	expect := func(what string, err, want error, calls int) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		r.expectCalls(getKeys, calls)
	}
	expect("the first token", r.verify(r.signer, nil), nil, 1)
	expect("just requested", r.verify(next, nil), tenantauth.ErrInvalidPrincipal, 1)
	r.clock.Advance(5 * time.Second)
	expect("unknown", r.verify(next, nil), tenantauth.ErrInvalidPrincipal, 2)
	r.publish(r.signer, next)
	r.clock.Advance(5*time.Second - 1)
	expect("too early", r.verify(next, nil), tenantauth.ErrInvalidPrincipal, 2)
	r.clock.Advance(1)
	expect("published", r.verify(next, nil), nil, 3)
	expect("known", r.verify(r.signer, nil), nil, 3)
}

func TestPrincipalKeyPublishedAheadNeedsNoCall(t *testing.T) {
	r := startPrincipal(t)
	next := edSigner(t)
	r.publish(r.signer, next)
	for _, signer := range []signer{r.signer, next, r.signer} {
		if err := r.verify(signer, nil); err != nil {
			t.Errorf("%v", err)
		}
	}
	r.expectCalls(getKeys, 1)
}

func TestConcurrentVerificationsShareOneRequest(t *testing.T) {
	r := startPrincipal(t)
	release := r.block()
	defer release()
	token := r.signer.sign(t, claims{}.payload(t, r.clock.Now()))
	var started, ended sync.WaitGroup
	for range 5 {
		started.Add(1)
		ended.Go(func() {
			// Each client has one set: verifiers share it.
			verifier, err := r.client.NewPrincipalVerifier(audience)
			started.Done()
			if err == nil {
				_, err = verifier.Verify(r.ctx, token)
			}
			if err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	started.Wait()
	r.await("the request", func() bool { return r.service.Calls(getKeys) == 1 })
	// A slow request is shared too.
	r.clock.Advance(5 * time.Second)
	gone, cancel := context.WithCancel(r.ctx)
	cancel()
	if _, err := r.verifier.Verify(gone, token); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
	ended.Wait()
	r.expectCalls(getKeys, 1)
}

func TestCallerThatGivesUpDoesNotEndTheRequest(t *testing.T) {
	r := startPrincipal(t)
	release := r.block()
	defer release()
	token := r.signer.sign(t, claims{}.payload(t, r.clock.Now()))
	ctx, cancel := context.WithCancel(r.ctx)
	gone := make(chan error)
	go func() {
		_, err := r.verifier.Verify(ctx, token)
		gone <- err
	}()
	r.await("the request", func() bool { return r.service.Calls(getKeys) == 1 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
	if _, err := r.verifier.Verify(r.ctx, token); err != nil {
		t.Errorf("%v", err)
	}
	r.expectCalls(getKeys, 1)
}

func TestOldPrincipalKeysAreRefreshedInBackground(t *testing.T) {
	r := startPrincipal(t, tenantauth.WithTimeout(testTimeout))
	if err := r.verify(r.signer, nil); err != nil {
		t.Fatal(err)
	}
	r.publish(edSigner(t))
	release := r.block()
	defer release()
	r.clock.Advance(5*time.Minute + 1)
	for range 2 {
		if err := r.verify(r.signer, nil); err != nil {
			t.Errorf("during the refresh: %v", err)
		}
	}
	release()
	r.await("the set is replaced", func() bool { return errors.Is(r.verify(r.signer, nil), tenantauth.ErrInvalidPrincipal) })
	r.expectCalls(getKeys, 2)
}

func TestUnusablePrincipalKeysNeverReplaceASet(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := ecSigner(t).public()
	p384, posing, secret, encrypts, confused := ec, ec, ec, ec, ec
	p384.Key, p384.Algorithm = &private.PublicKey, string(jose.ES384)
	posing.Key = &private.PublicKey
	secret.Key, secret.Algorithm = []byte("secret"), string(jose.HS256)
	encrypts.Use = "enc"
	confused.Algorithm = string(jose.EdDSA)
	for name, answer := range map[string][2]string{
		"empty":           {issuer, `{"keys":[]}`},
		"signs no tokens": {"", `{"keys":[]}`},
		"unreadable":      {issuer, `{"keys":[`},
		"no text":         {issuer, ""},
		"no issuer":       {"", jwks(t, ec)},
		"P-384":           {issuer, jwks(t, p384)},
		"P-384 as ES256":  {issuer, jwks(t, posing)},
		"symmetric":       {issuer, jwks(t, secret)},
		"encryption":      {issuer, jwks(t, encrypts)},
		"wrong algorithm": {issuer, jwks(t, confused)},
		"private":         {issuer, jwks(t, jose.JSONWebKey{Key: ecSigner(t).private, KeyID: ec.KeyID, Algorithm: ec.Algorithm, Use: "sig"})},
		"unknown type":    {issuer, `{"keys":[{"kty":"NEW","kid":"a","use":"sig","alg":"ES256"}]}`},
	} {
		r := startPrincipal(t)
		if err := r.verify(r.signer, nil); err != nil {
			t.Fatal(err)
		}
		r.service.PutPrincipalKeys(answer[0], answer[1])
		r.clock.Advance(5 * time.Second)
		if err := r.verify(edSigner(t), nil); !errors.Is(err, tenantauth.ErrUnavailable) {
			t.Errorf("%s: unknown key: %v", name, err)
		}
		r.expectCalls(getKeys, 2)
		if err := r.verify(r.signer, nil); err != nil {
			t.Errorf("%s: known key: %v", name, err)
		}
	}
}

func TestUnusableKeyDoesNotHideTheOthers(t *testing.T) {
	r := startPrincipal(t)
	set := strings.Replace(jwks(t, r.signer.public()), "[", `[{"kty":"NEW","kid":"a"},1,`, 1)
	r.service.PutPrincipalKeys(issuer, set)
	if err := r.verify(r.signer, nil); err != nil {
		t.Errorf("%v", err)
	}
}

func TestIssuerIsReplacedTogetherWithItsKeys(t *testing.T) {
	r := startPrincipal(t)
	if err := r.verify(r.signer, nil); err != nil {
		t.Fatal(err)
	}
	next := edSigner(t)
	r.service.PutPrincipalKeys("https://next.example.com", jwks(t, next.public()))
	r.clock.Advance(5 * time.Second)
	if err := r.verify(next, nil); !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
		t.Errorf("next key, previous issuer: %v", err)
	}
	if err := r.verify(next, claims{"iss": "https://next.example.com"}); err != nil {
		t.Errorf("next key and issuer: %v", err)
	}
	if err := r.verify(r.signer, nil); !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
		t.Errorf("previous key and issuer: %v", err)
	}
}

func TestFailedRequestKeepsThePrincipalKeys(t *testing.T) {
	var log bytes.Buffer
	r := startPrincipal(t, tenantauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err := r.verify(r.signer, nil); err != nil {
		t.Fatal(err)
	}
	r.fail()
	r.clock.Advance(time.Hour)
	for range 2 {
		if err := r.verify(edSigner(t), nil); toError(t, err).Reason != "STARTING" {
			t.Errorf("unknown key: %v", err)
		}
		if err := r.verify(r.signer, nil); err != nil {
			t.Errorf("known key: %v", err)
		}
	}
	r.expectCalls(getKeys, 2)
	_ = r.client.Close()
	if !strings.Contains(log.String(), "previous ones stay in use") {
		t.Errorf("%s", log.String())
	}
}

func TestWithoutPrincipalKeysNothingIsDecided(t *testing.T) {
	r := startPrincipal(t)
	r.service.PutPrincipalKeys("", `{"keys":[]}`)
	for range 2 {
		if err := toError(t, r.verify(r.signer, nil)); err.Kind != tenantauth.ErrUnavailable || err.Reason != "NO_PRINCIPAL_KEYS" {
			t.Errorf("signs no tokens: %v", err)
		}
		r.expectCalls(getKeys, 1)
	}
	r.fail()
	r.clock.Advance(time.Second)
	if err := r.verify(r.signer, nil); toError(t, err).Reason != "STARTING" {
		t.Errorf("fails: %v", err)
	}
	r.service.Before(nil)
	r.publish(r.signer)
	r.clock.Advance(time.Second)
	if err := r.verify(r.signer, nil); err != nil {
		t.Errorf("back again: %v", err)
	}
	r.expectCalls(getKeys, 3)
}

func TestVerifierOfAClosedClientIsClosed(t *testing.T) {
	r := startPrincipal(t)
	if _, err := r.client.NewPrincipalVerifier(""); toError(t, err).Violations[0].Field != "audience" {
		t.Errorf("%v", err)
	}
	if err := r.verify(r.signer, nil); err != nil {
		t.Fatal(err)
	}
	_ = r.client.Close()
	if err := r.verify(r.signer, nil); !errors.Is(err, tenantauth.ErrClosed) {
		t.Errorf("%v", err)
	}
}
