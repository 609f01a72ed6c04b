package tenantauth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

func TestPrincipalTokensOfBothAlgorithmsAreVerified(t *testing.T) {
	for _, signer := range []signer{ecSigner(t), edSigner(t)} {
		r := startPrincipal(t)
		r.publish(signer)
		now := r.clock.Now()
		token := signer.sign(t, claims{"scope_omitted": 2}.payload(t, now))
		principal, err := r.verifier.Verify(r.ctx, token, "orders:write", "orders:read")
		want := tenantauth.VerifiedPrincipal{
			Principal:     tenantauth.Principal{TenantID: "ten_1", Plan: "pro", KeyID: "key_1", Scopes: []string{"orders:read", "orders:write"}},
			OmittedScopes: 2, Revision: 11, IssuedAt: now, ExpiresAt: now.Add(time.Minute),
		}
		if err != nil || !reflect.DeepEqual(principal, want) {
			t.Errorf("%s: %+v, %v", signer.algorithm, principal, err)
		}
		if err := r.verify(signer, claims{"scope": ""}); err != nil {
			t.Errorf("%s without scopes: %v", signer.algorithm, err)
		}
	}
}

func TestPrincipalWithoutScopeIsDenied(t *testing.T) {
	r := startPrincipal(t)
	err := r.verify(r.signer, nil, "z", "orders:read", "a")
	var denied *tenantauth.Denied
	if !errors.As(err, &denied) || denied.Verdict != tenantauth.InsufficientScope || !slices.Equal(denied.MissingScopes, []string{"a", "z"}) ||
		denied.Provenance.Revision != 11 {
		t.Errorf("%+v, %v", denied, err)
	}
	if err := r.verify(r.signer, nil, "No Scope"); toError(t, err).Kind != tenantauth.ErrInvalid {
		t.Errorf("%v", err)
	}
}

func TestScopeThatMayHaveBeenOmittedIsUndecided(t *testing.T) {
	r := startPrincipal(t)
	err := r.verify(r.signer, claims{"scope_omitted": 1}, "orders:read", "a")
	if failure := toError(t, err); failure.Kind != tenantauth.ErrUnavailable || failure.Reason != "SCOPES_OMITTED" || errors.As(err, new(*tenantauth.Denied)) {
		t.Errorf("%v", err)
	}
}

func TestPrincipalTokenWithWrongClaimsIsInvalid(t *testing.T) {
	r := startPrincipal(t)
	now := r.clock.Now().Unix()
	for _, changed := range []claims{
		{"iss": "https://other.example.com"}, {"iss": nil}, {"iss": 1}, {"aud": "billin"}, {"aud": "Billing"}, {"aud": nil},
		{"aud": []string{audience}}, {"sub": nil}, {"sub": ""}, {"sub": 1}, {"key_id": nil}, {"key_id": ""}, {"key_id": 1}, {"scope": nil},
		{"scope": []string{"orders:read"}}, {"plan": nil}, {"plan": 1}, {"rev": nil}, {"rev": "11"}, {"rev": 11.5}, {"iat": nil}, {"iat": "1"},
		{"exp": nil}, {"exp": fmt.Sprint(now + 60)}, {"scope_omitted": 0}, {"scope_omitted": -1}, {"scope_omitted": "1"},
		{"scope_omitted": json.RawMessage("null")},
		{"iat": now - 65, "exp": now - 5}, {"iat": now + 6, "exp": now + 66}, {"exp": now + 61}, {"iat": now + 1, "exp": now - 1},
		{"iat": int64(-9e18), "exp": int64(9e18)},
	} {
		if err := r.verify(r.signer, changed); !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
			t.Errorf("%v: %v", changed, err)
		}
	}
	for _, changed := range []claims{
		{"iat": now - 64, "exp": now - 4}, {"iat": now + 5, "exp": now + 65}, {"scope_omitted": 1}, {"unknown": true},
	} {
		if err := r.verify(r.signer, changed); err != nil {
			t.Errorf("%v: %v", changed, err)
		}
	}
	r.expectCalls("GetPrincipalKeys", 1)
}

func TestForgedPrincipalTokenIsInvalid(t *testing.T) {
	r := startPrincipal(t)
	ec, ed, payload := r.signer, edSigner(t), claims{}.payload(t, r.clock.Now())
	r.publish(ec, ed)
	encoded, err := x509.MarshalPKIXPublicKey(&ec.private.(*ecdsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded})
	edPublic := []byte(ed.private.(ed25519.PrivateKey).Public().(ed25519.PublicKey))
	base64URL := base64.RawURLEncoding.EncodeToString
	valid := ec.sign(t, payload)
	parts := strings.Split(valid, ".")
	for name, token := range map[string]string{
		"another key":          signer{ec.id, ec.typ, ec.algorithm, ecSigner(t).private}.sign(t, payload),
		"another payload":      parts[0] + "." + base64URL(claims{"sub": "ten_2"}.payload(t, r.clock.Now())) + "." + parts[2],
		"no signature":         parts[0] + "." + parts[1] + ".",
		"alg none":             base64URL([]byte(`{"alg":"none","typ":"principal+jwt","kid":"`+ec.id+`"}`)) + "." + parts[1] + ".",
		"HS256, PEM as secret": signer{ec.id, ec.typ, jose.HS256, text}.sign(t, payload),
		"HS256, Ed25519":       signer{ed.id, ed.typ, jose.HS256, edPublic}.sign(t, payload),
		"EdDSA for an EC key":  signer{ec.id, ec.typ, jose.EdDSA, ed.private}.sign(t, payload),
		"ES256 for an Ed key":  signer{ed.id, ed.typ, jose.ES256, ec.private}.sign(t, payload),
		"typ JWT":              signer{ec.id, "JWT", ec.algorithm, ec.private}.sign(t, payload),
		"no typ":               signer{ec.id, "", ec.algorithm, ec.private}.sign(t, payload),
		"no kid":               signer{"", ec.typ, ec.algorithm, ec.private}.sign(t, payload),
		"a claim twice":        ec.sign(t, append(slices.Clone(payload[:len(payload)-1]), `,"sub":"ten_2"}`...)),
		"null":                 ec.sign(t, []byte("null")),
		"no JSON":              ec.sign(t, []byte("-")),
		"JSON serialization":   `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"four parts":           valid + ".a",
		"empty":                "",
	} {
		if _, err := r.verifier.Verify(r.ctx, token); !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.verifier.Verify(r.ctx, valid); err != nil {
		t.Errorf("the valid token: %v", err)
	}
}

func TestOverlongPrincipalTokenIsInvalid(t *testing.T) {
	r := startPrincipal(t)
	sized := func(length int) string {
		fill := claims{}
		for filler := 2_700; ; filler++ {
			maps.Copy(fill, claims{"filler": strings.Repeat("a", filler)})
			if token := r.signer.sign(t, fill.payload(t, r.clock.Now())); len(token) >= length {
				return token
			}
		}
	}
	for length, valid := range map[int]bool{4_095: true, 4_097: false} {
		token := sized(length)
		if _, err := r.verifier.Verify(r.ctx, token); (err == nil) != valid {
			t.Errorf("%d bytes: %v", len(token), err)
		}
	}
}

func TestPrincipalTokenIsNeverPrinted(t *testing.T) {
	var log bytes.Buffer
	r := startPrincipal(t, tenantauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"canary-of-the-tests"}`))
	valid := r.signer.sign(t, claims{"plan": "canary-of-the-tests", "exp": "canary-of-the-tests"}.payload(t, r.clock.Now()))
	var text strings.Builder
	for _, token := range []string{none + ".canary-of-the-tests.canary-of-the-tests", valid, "canary-of-the-tests"} {
		_, err := r.verifier.Verify(r.ctx, token, scope)
		if !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
			t.Errorf("%v", err)
		}
		text.WriteString(shown(t, err) + fmt.Sprintf("%+v", r.verifier))
	}
	_ = r.client.Close()
	for _, secret := range []string{"canary-of-the-tests", valid, strings.Split(valid, ".")[1]} {
		if strings.Contains(text.String()+log.String(), secret) {
			t.Errorf("%s was printed", secret)
		}
	}
}
