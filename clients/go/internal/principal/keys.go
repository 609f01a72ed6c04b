// Package principal reads principal tokens and the keys that verify them. It decides nothing that needs a clock, a
// configuration or a service.
package principal

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Key is a public key that verifies tokens of exactly one algorithm.
type Key struct {
	public    any
	algorithm jose.SignatureAlgorithm
}

// ParseKeys returns the usable keys of a JSON Web Key Set by their ids. There are none if the set cannot be read.
func ParseKeys(jwks string) map[string]Key {
	var set struct {
		// Keys are decoded one by one, because a key of a type that this version does not know must not hide the others.
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal([]byte(jwks), &set) != nil {
		return nil
	}
	keys := map[string]Key{}
	for _, encoded := range set.Keys {
		var parsed jose.JSONWebKey
		if parsed.UnmarshalJSON(encoded) != nil || parsed.KeyID == "" || parsed.Use != "sig" {
			continue
		}
		if algorithm := algorithmOf(parsed.Key); algorithm != "" && parsed.Algorithm == string(algorithm) {
			keys[parsed.KeyID] = Key{public: parsed.Key, algorithm: algorithm}
		}
	}
	return keys
}

// algorithmOf returns the only algorithm that a key may be used with, or an empty text for any other kind of key: private
// and symmetric ones included.
func algorithmOf(key any) jose.SignatureAlgorithm {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return jose.ES256
		}
	case ed25519.PublicKey:
		return jose.EdDSA
	}
	return ""
}
