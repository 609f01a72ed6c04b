package tenantauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

const (
	issuer   = "https://auth.example.com"
	audience = "billing"
)

// signer signs tokens. Tests change a copy to forge them.
type signer struct {
	id, typ   string
	algorithm jose.SignatureAlgorithm
	private   any
}

func ecSigner(t *testing.T) signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newSigner(t, jose.ES256, private)
}

func edSigner(t *testing.T) signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newSigner(t, jose.EdDSA, private)
}

func newSigner(t *testing.T, algorithm jose.SignatureAlgorithm, private any) signer {
	t.Helper()
	thumbprint, err := (&jose.JSONWebKey{Key: private}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signer{base64.RawURLEncoding.EncodeToString(thumbprint), "principal+jwt", algorithm, private}
}

func (s signer) public() jose.JSONWebKey {
	private := jose.JSONWebKey{Key: s.private, KeyID: s.id, Algorithm: string(s.algorithm), Use: "sig"}
	return private.Public()
}

func (s signer) sign(t *testing.T, payload []byte) string {
	t.Helper()
	key := jose.SigningKey{Algorithm: s.algorithm, Key: jose.JSONWebKey{Key: s.private, KeyID: s.id}}
	made, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(jose.ContentType(s.typ)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := made.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// jwks returns a JSON Web Key Set.
func jwks(t *testing.T, keys ...jose.JSONWebKey) string {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// claims override those of a valid token; nil omits one.
type claims map[string]any

func (c claims) payload(t *testing.T, now time.Time) []byte {
	t.Helper()
	all := claims{
		"iss": issuer, "aud": audience, "sub": "ten_1", "key_id": "key_1", "scope": "orders:read orders:write", "plan": "pro", "rev": 11,
		"iat": now.Unix(), "exp": now.Unix() + 60,
	}
	maps.Copy(all, c)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// principalRig is a rig whose service has published the keys of a signer.
type principalRig struct {
	*rig
	signer   signer
	verifier *tenantauth.PrincipalVerifier
}

func startPrincipal(t *testing.T, options ...tenantauth.Option) *principalRig {
	t.Helper()
	return withPrincipal(start(t, append([]tenantauth.Option{tenantauth.WithAttempts(1)}, options...)...))
}

// startPrincipalWatched is a rig whose watch stream is live, too.
func startPrincipalWatched(t *testing.T) (*principalRig, *fake.Stream) {
	t.Helper()
	r, stream := startWatched(t)
	return withPrincipal(r), stream
}

func withPrincipal(r *rig) *principalRig {
	r.t.Helper()
	verifier, err := r.client.NewPrincipalVerifier(audience)
	if err != nil {
		r.t.Fatal(err)
	}
	made := &principalRig{r, ecSigner(r.t), verifier}
	made.publish(made.signer)
	return made
}

func (r *principalRig) publish(signers ...signer) {
	r.t.Helper()
	var keys []jose.JSONWebKey
	for _, signer := range signers {
		keys = append(keys, signer.public())
	}
	r.service.PutPrincipalKeys(issuer, jwks(r.t, keys...))
}

// verify verifies a fresh token of a signer.
func (r *principalRig) verify(signer signer, changed claims, scopes ...string) error {
	r.t.Helper()
	_, err := r.verifier.Verify(r.ctx, signer.sign(r.t, changed.payload(r.t, r.clock.Now())), scopes...)
	return err
}
